"""Server addresses, parsed from URLs."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, final
from urllib.parse import unquote, urlsplit

from .._errors import ConfigError

DEFAULT_PORT: Final = 4222
_SCHEMES: Final = ("nats", "tls")
_EXAMPLE: Final = "'nats://127.0.0.1:4222' or 'tls://user:p%40ssword@[::1]', with ports up to 65535"
_HOST_PORT = re.compile(r"(?:\[[^\[\]]+\]|[^\[\]:%,\s]+)(?::[0-9]*)?")
_BAD_PORT = re.compile(r"(?:[a-z]+://)?(?:\[[^\[\]]+\]|[^\[\]:%,\s/@]+):[^:/@]*[^0-9:/@][^:/@]*/?", re.IGNORECASE)
_NO_SCHEME = re.compile(r"(?:nats|tls)(?!://)(?::?/.*|:[^0-9/@][^@]*)", re.IGNORECASE)

# If a password contains a comma, or the host is missing, a part of the password is where the port would be.
_WITHOUT_SECRETS = re.compile(r"(?:[a-z]+://)?(?:\[[^\[\]]*\]|[^:/?#\[\]]*)(?::[0-9]+(?![^/?#]))?/?", re.IGNORECASE)


@final
@dataclass(frozen=True)
class Address:
    """The address of a server: host, port, whether TLS is required, and the credentials in its URL."""

    host: str
    port: int = DEFAULT_PORT
    tls: bool = False
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    verify_as: str | None = None
    """The host name that its certificate must match, if it is not ``host``."""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'tls' if self.tls else 'nats'}://{host}:{self.port}"

    @property
    def host_port(self) -> tuple[str, int]:
        """Host and port, which identify the server."""
        return self.host, self.port


@final
class Target(NamedTuple):
    """One of the IP addresses of a server."""

    address: Address
    ip: str

    @property
    def ip_port(self) -> tuple[str, int]:
        """IP address and port."""
        return self.ip, self.address.port

    def __str__(self) -> str:
        return str(self.address) if self.ip == self.address.host else f"{self.address} ({self.ip})"


def read_addresses(servers: object) -> list[Address]:
    """Return the addresses in one URL, several URLs separated by commas, or a sequence of URLs, without duplicates.

    Raises:
        ConfigError: a URL is invalid; the error does not show what may be secret in it.
    """
    if isinstance(servers, str):
        urls: Iterable[object] = servers.split(",")
    elif isinstance(servers, Sequence) and not isinstance(servers, (bytes, bytearray)):
        urls = servers
    else:
        raise ConfigError("servers", type(servers).__name__, "must be a URL or a sequence of URLs")
    found: dict[tuple[str, int], Address] = {}
    for url in urls:
        address = read_address(url)
        found.setdefault(address.host_port, address)
    if not found:
        raise ConfigError("servers", servers, "must name at least one server")
    return list(found.values())


def read_address(url: object) -> Address:
    """Return the address in ``nats://host:4222``, ``tls://user:password@host``, ``nats://token@host`` or ``host:port``.

    Raises:
        ConfigError: the URL is invalid; the error does not show what may be secret in it.
    """
    if not isinstance(url, str):
        raise ConfigError("servers", type(url).__name__, "must be URLs, as str")
    text = url.strip()
    shown = _without_secrets(text)
    if any(character < " " or character == "\x7f" for character in text):
        raise ConfigError("servers", shown, "must not contain control characters")
    if _NO_SCHEME.fullmatch(text):
        raise ConfigError("servers", shown, "must begin with nats:// or tls://, colon and both slashes included")
    try:
        parts = urlsplit(text if "://" in text else f"nats://{text}")
        port = parts.port
        # IDNA, as resolvers and certificates use it.
        host = parts.hostname or ""
        # The zone of an IPv6 address may be written as URLs have it (RFC 6874) or as everything else has it.
        host = host.replace("%25", "%", 1) if ":" in host else _idna(host)
        user, password = (
            None if each is None else unquote(each, errors="strict") for each in (parts.username, parts.password)
        )
    except ValueError:  # its text may contain parts of a password
        if _BAD_PORT.fullmatch(text):
            raise ConfigError("servers", shown, f"must have a port that is a number, as in {_EXAMPLE}") from None
        raise ConfigError("servers", shown, f"must be URLs such as {_EXAMPLE}") from None
    if parts.scheme in ("ws", "wss"):
        raise ConfigError("servers", shown, "WebSocket is not supported here; natsery.bridge and natsery.adapt can")
    if parts.scheme not in _SCHEMES:
        raise ConfigError("servers", shown, "must begin with nats:// or tls://")
    host_port = parts.netloc.rpartition("@")[2]
    if (
        not host
        or not _HOST_PORT.fullmatch(host_port)
        or not _HOST_PORT.fullmatch(f"[{host}]" if ":" in host else host)
    ):
        raise ConfigError("servers", shown, "must name a host")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ConfigError("servers", shown, "must end after the port")
    if port == 0:
        raise ConfigError("servers", shown, "must have a port between 1 and 65535")
    token = None
    if password is None:
        user, token = None, user
    return Address(host, port or DEFAULT_PORT, parts.scheme == "tls", user, password, token)


def discovered_address(text: str, origin: Address) -> Address | None:
    """Return the address of a server that another one has announced, or ``None`` if it is invalid.

    Args:
        text: the announced host and port.
        origin: the server that announced it, whose TLS setting and credentials are used for it too.
    """
    try:
        address = read_address(text)
    except ConfigError:
        return None
    # Servers announce IP addresses, while certificates are issued for host names.
    name = origin.verify_as or origin.host
    verify_as = name if is_ip_address(address.host) and not is_ip_address(name) else None
    return Address(
        address.host, address.port, origin.tls, origin.user, origin.password, origin.token, verify_as=verify_as
    )


def is_ip_address(host: str) -> bool:
    """Return whether a host is an IP address rather than a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _idna(host: str) -> str:
    encoded = host.encode("idna").decode()
    # Once more: a character that stands for a dot can leave an empty label, which the first pass lets through.
    encoded.encode("idna")
    return encoded


def _without_secrets(url: str) -> str:
    _, at, host_port = url.rpartition("@")
    match = _WITHOUT_SECRETS.match(host_port)
    harmless = match[0] if match else ""
    return f"{'…@' if at else ''}{harmless}{'…' if harmless != host_port else ''}"
