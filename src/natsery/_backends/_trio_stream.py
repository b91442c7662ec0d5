"""A TCP stream that uses the non-blocking socket below a trio stream."""

from __future__ import annotations

import socket
from typing import final

import anyio
import trio
from anyio.abc import SocketStream

from ._direct_stream import LARGE_RECEIVE_BYTES, RECEIVE_BYTES, DirectStream, Take


@final
class TrioStream(DirectStream):
    """A TCP stream for one reading and one writing task.

    trio tries a system call before it waits for the socket, and executes a checkpoint after each success. This reader waits
    first and this writer waits only if it has to, which saves a system call and a loop iteration for each chunk.
    """

    def __init__(self, stream: SocketStream, raw: socket.socket) -> None:
        self._stream = stream
        self._raw = raw

    async def receive_into(self, take: Take) -> None:
        """See `DirectStream`."""
        raw = self._raw
        small = buffer = memoryview(bytearray(RECEIVE_BYTES))
        large: memoryview | None = None
        # Not anyio's, which first looks up the backend: this is called for every chunk.
        wait_readable = trio.lowlevel.wait_readable
        while True:
            try:
                await wait_readable(raw)
                count = raw.recv_into(buffer)
            except BlockingIOError:
                continue
            except OSError as error:
                raise anyio.BrokenResourceError from error
            except trio.ClosedResourceError as error:
                raise anyio.ClosedResourceError from error
            if not count:
                raise anyio.EndOfStream
            if take(buffer[:count]):
                buffer = large = large or memoryview(bytearray(LARGE_RECEIVE_BYTES))
            else:
                buffer = small

    async def send(self, item: bytes) -> None:
        """See `DirectStream`."""
        rest = memoryview(item)
        while rest:
            try:
                rest = rest[self._raw.send(rest) :]
            except BlockingIOError:
                await anyio.wait_writable(self._raw)
            except OSError as error:
                raise anyio.BrokenResourceError from error

    def send_nowait(self, item: bytes) -> int:
        """See `DirectStream`."""
        try:
            return self._raw.send(item)
        except OSError:
            return 0

    async def aclose(self) -> None:
        """Close it. A checkpoint."""
        await self._stream.aclose()
