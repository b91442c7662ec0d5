"""A server whose every byte a test decides."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.tls import TLSStream

from ..certificates import Certificates

INFO = {"server_id": "S", "version": "2.11.0", "headers": True, "max_payload": 1024, "proto": 1}


class Peer:
    """One client, as the scripted server sees it."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._lines = BufferedByteReceiveStream(stream)

    async def send(self, data: bytes) -> None:
        await self._stream.send(data)

    async def send_info(self, **fields: object) -> None:
        await self.send(b"INFO %b\r\n" % json.dumps({**INFO, **fields}).encode())

    async def line(self) -> bytes:
        """The next line of the client."""
        return await self._lines.receive_until(b"\r\n", 65_536)

    async def line_of(self, *verbs: bytes) -> bytes:
        """The next line that begins with one of these."""
        while not (line := await self.line()).startswith(verbs):
            pass
        return line

    async def greet(self, **fields: object) -> None:
        """The whole handshake."""
        await self.send_info(**fields)
        await self.accept()

    async def accept(self) -> None:
        """What comes after INFO."""
        await self.line_of(b"CONNECT")
        await self.line_of(b"PING")
        await self.send(b"PONG\r\n")

    async def start_tls(self, certificates: Certificates) -> None:
        """Go on in TLS; INFO has said so."""
        context = certificates.server_context()
        self._stream = await TLSStream.wrap(
            self._stream, server_side=True, ssl_context=context, standard_compatible=False
        )
        self._lines = BufferedByteReceiveStream(self._stream)

    async def answer_pings(self) -> None:
        """Until the client goes."""
        while True:
            await self.line_of(b"PING")
            await self.send(b"PONG\r\n")


@asynccontextmanager
async def scripted_server(script: Callable[[Peer], Awaitable[None]]) -> AsyncIterator[str]:
    """Runs ``script`` for every client; gives the URL. A client that goes ends its script."""

    async def handle(stream: ByteStream) -> None:
        async with stream:
            try:
                await script(Peer(stream))
            except (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError):
                pass

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handle)
        yield f"nats://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"
        tasks.cancel_scope.cancel()
