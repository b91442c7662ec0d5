"""What nats-py sends in clear although TLS could be had, or was asked for: it encrypts only where a server requires it."""

from __future__ import annotations

from nats.aio.client import Client
from nats.aio.transport import TcpTransport

_WHAT_HELPS = "require TLS at the server, or give nats-py tls_handshake_first=True"


def complaint_of_clear_text(client: Client) -> str | None:
    """Return what is to be said of a connection that is not encrypted, ``None`` if nothing is."""
    transport, url = client._transport, client.connected_url
    writer = transport._io_writer if type(transport) is TcpTransport else None
    if writer is None or url is None or writer.get_extra_info("ssl_object") is not None:
        return None
    server = f"{url.hostname}:{url.port}"
    options = client.options
    if options.get("tls") is not None or url.scheme == "tls":
        return f"TLS is wanted, but nats-py sends everything to {server} in clear, which does not require it; {_WHAT_HELPS}"
    has_secret = url.username is not None or any(options.get(each) is not None for each in ("password", "token"))
    if has_secret and client._server_info.get("tls_available"):
        return f"nats-py has sent what it logs in with to {server} in clear, which offers TLS; {_WHAT_HELPS}"
    return None
