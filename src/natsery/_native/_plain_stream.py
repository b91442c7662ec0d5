"""A TCP stream with fewer turns of the event loop for each piece than anyio's own, where the socket is there to be used."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import final

import anyio
from anyio.abc import ByteStream, SocketAttribute, SocketStream


def plain_stream(stream: ByteStream) -> ByteStream:
    """A TCP stream of trio's over its own socket; any other stream as it is.

    On asyncio transports keep their sockets to themselves, and TLS needs the guards of anyio's own stream beneath it.
    """
    if isinstance(stream, SocketStream):
        raw = stream.extra(SocketAttribute.raw_socket)  # noqa: S610  # no Django
        if isinstance(raw, socket.socket):
            from .._backends._trio import wait_readable

            return PlainStream(stream, raw, wait_readable)
    return stream


@final
class PlainStream(ByteStream):
    """A TCP stream for one reading and one writing task.

    trio tries a socket before it waits for it and gives way to other tasks after every success. A reader that waits first
    and a writer that only waits when it must need neither: each piece costs a system call and a turn of the loop less.

    ``send`` is no checkpoint unless the socket takes no more.
    """

    def __init__(
        self, stream: SocketStream, raw: socket.socket, wait_readable: Callable[[socket.socket], Awaitable[None]]
    ) -> None:
        self._stream = stream
        self._raw = raw
        self._wait_readable = wait_readable

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """The next bytes. A checkpoint.

        Raises:
            EndOfStream, BrokenResourceError, ClosedResourceError: as for any stream.
        """
        while True:
            await self._wait_readable(self._raw)
            try:
                data = self._raw.recv(max_bytes)
            except BlockingIOError:
                continue
            except OSError as error:
                raise anyio.BrokenResourceError from error
            if not data:
                raise anyio.EndOfStream
            return data

    async def send(self, item: bytes) -> None:
        """Send all of it; cancelled, it may have sent a part.

        Raises:
            BrokenResourceError, ClosedResourceError: as for any stream.
        """
        rest = memoryview(item)
        while rest:
            try:
                rest = rest[self._raw.send(rest) :]
            except BlockingIOError:
                await anyio.wait_writable(self._raw)
            except OSError as error:
                raise anyio.BrokenResourceError from error

    def send_nowait(self, item: bytes) -> int:
        """Send as much of it as the socket takes at once; how many bytes. Not while ``send`` is under way.

        Errors are left for ``send`` to find.
        """
        try:
            return self._raw.send(item)
        except OSError:
            return 0

    async def send_eof(self) -> None:
        """Send nothing more."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close it."""
        await self._stream.aclose()
