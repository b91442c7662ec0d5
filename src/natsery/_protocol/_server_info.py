"""INFO: what a server says about itself."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from typing import Any, TypeVar, final

from .._errors import ProtocolError

ValueT = TypeVar("ValueT")


@final
@dataclass(frozen=True, kw_only=True)
class ServerInfo:
    """What a server last said about itself.

    Attributes:
        server_id: its unique id.
        server_name: its name.
        version: its version, such as ``"2.11.0"``.
        cluster: the name of its cluster, ``""`` if it has none.
        domain: its JetStream domain, ``""`` if it has none.
        host: the address that it listens on.
        port: its port.
        client_id: the number that it has assigned to this connection.
        client_ip: the address of this client, as the server sees it.
        max_payload: the maximum bytes of a message, including headers.
        headers: whether it supports headers.
        jetstream: whether it offers JetStream.
        auth_required: whether it requires credentials.
        tls_required: whether it requires TLS.
        tls_available: whether it offers TLS.
        connect_urls: the addresses of the servers in its cluster, each as ``"host:port"``.
        lame_duck: whether it is about to shut down.

    Source: NATS client protocol, INFO.
    """

    server_id: str = ""
    server_name: str = ""
    version: str = ""
    cluster: str = ""
    domain: str = ""
    host: str = ""
    port: int = 0
    client_id: int = 0
    client_ip: str = ""
    max_payload: int = 1024 * 1024
    headers: bool = False
    jetstream: bool = False
    auth_required: bool = False
    tls_required: bool = False
    tls_available: bool = False
    connect_urls: tuple[str, ...] = ()
    lame_duck: bool = False
    nonce: str = field(default="", repr=False)


def read_info(text: bytes) -> ServerInfo:
    """Parse the JSON of an INFO. Unknown fields and fields of an unexpected type are ignored.

    Raises:
        ProtocolError: it is not a JSON object.
    """
    try:
        # Deep nesting raises a RecursionError, which is not a ValueError.
        fields = json.loads(text)
    except (ValueError, RecursionError):
        raise ProtocolError("INFO is not JSON", text) from None
    if not isinstance(fields, dict):
        raise ProtocolError("INFO is not a JSON object", text)
    urls = fields.get("connect_urls")
    return ServerInfo(
        server_id=_get_text(fields, "server_id"),
        server_name=_get_text(fields, "server_name"),
        version=_get_text(fields, "version"),
        cluster=_get_text(fields, "cluster"),
        domain=_get_text(fields, "domain"),
        host=_get_text(fields, "host"),
        port=_get(fields, "port", 0),
        client_id=_get(fields, "client_id", 0),
        client_ip=_get_text(fields, "client_ip"),
        max_payload=min(max(0, _get(fields, "max_payload", 1024 * 1024)), sys.maxsize),
        headers=_get(fields, "headers", False),
        jetstream=_get(fields, "jetstream", False),
        auth_required=_get(fields, "auth_required", False),
        tls_required=_get(fields, "tls_required", False),
        tls_available=_get(fields, "tls_available", False),
        connect_urls=tuple(_without_surrogates(url) for url in urls if isinstance(url, str))
        if isinstance(urls, list)
        else (),
        lame_duck=_get(fields, "ldm", False),
        nonce=_get_text(fields, "nonce"),
    )


def _get(fields: dict[str, Any], name: str, default: ValueT) -> ValueT:
    value = fields.get(name)
    return value if type(value) is type(default) else default


def _get_text(fields: dict[str, Any], name: str) -> str:
    return _without_surrogates(_get(fields, name, ""))


def _without_surrogates(text: str) -> str:
    # JSON may contain lone surrogates, with which a nonce could not be signed, nor a text encoded.
    return text.encode(errors="replace").decode()
