"""Direct streams: how TLS begins on one, and what it receives until its end."""

from __future__ import annotations

import socket
import ssl

import anyio
import anyio.to_thread
from anyio.abc import ByteStream
from anyio.streams.tls import TLSStream

from natsery._backends._direct_stream import DirectStream

from ..certificates import Certificates

VERSIONS = {"TLS 1.2": ssl.TLSVersion.TLSv1_2, "TLS 1.3": ssl.TLSVersion.TLSv1_3}


async def shake_hands(
    near: ByteStream, far: socket.socket, version: ssl.TLSVersion, certificates: Certificates
) -> tuple[TLSStream, ssl.SSLSocket]:
    context = certificates.client_context()
    context.minimum_version = context.maximum_version = version
    server_context = certificates.server_context()
    accepted: list[ssl.SSLSocket] = []

    def accept() -> None:
        accepted.append(server_context.wrap_socket(far, server_side=True))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, accept)
        encrypted = await TLSStream.wrap(near, hostname="localhost", ssl_context=context, standard_compatible=False)
    return encrypted, accepted[0]


async def receive_until_end(stream: DirectStream, received: list[bytes]) -> Exception:
    """Take what comes until the end; how that looked."""
    try:
        await stream.receive_into(lambda chunk: bool(received.append(bytes(chunk))))
    except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
        return error
    raise AssertionError("it has no end")
