"""A TCP stream that uses the non-blocking socket below a trio stream."""

from __future__ import annotations

import socket
from typing import final

import anyio
import trio
from anyio.abc import SocketStream

from ._direct_stream import LARGE_RECEIVE_BYTES, RECEIVE_BYTES, DirectStream, Take
from ._trio import TrioWakeup


@final
class TrioStream(DirectStream):
    """A TCP stream for one reading and one writing task.

    trio tries a system call before it waits for the socket, and executes a checkpoint after each success. This reader waits
    first and this writer waits only if it has to, which saves a system call and a loop iteration for each chunk.

    Attributes:
        is_taking: whether a chunk is being taken at this moment.
        borrower: who receives in the place of the task in ``receive_into``, if anybody does.
    """

    def __init__(self, stream: SocketStream, raw: socket.socket) -> None:
        self._stream = stream
        self._raw = raw
        self._is_closed = False
        self._take: Take | None = None
        self._small = self._buffer = memoryview(bytearray(RECEIVE_BYTES))
        self._large: memoryview | None = None
        self.is_taking: bool = False
        self.borrower: object | None = None
        self._returned = TrioWakeup()
        self._error: Exception | None = None

    async def receive_into(self, take: Take) -> None:
        """See `DirectStream`."""
        self._take = take
        try:
            while True:
                if self.borrower is None:
                    await self._receive()
                else:
                    await self._returned.wait()
                if self._error is not None:
                    raise self._error
        finally:
            self._take = None

    async def receive_for_owner(self) -> bool:
        """Receive in the place of ``receive_into``, at most one chunk; return false if that cannot go on.

        **Cancellation:** nothing is received. A checkpoint.
        """
        if self._take is None or self._error is not None:
            return False
        try:
            await self._receive()
        except Exception as error:
            self._error = error
            return False
        return True

    def interrupt_receiving(self) -> None:
        """Have ``receive_for_owner`` return soon."""
        trio.lowlevel.notify_closing(self._raw)

    def take_back(self) -> None:
        """Have the task in ``receive_into`` receive again."""
        self.borrower = None
        self._returned.set()

    async def _receive(self) -> None:
        """Wait for a chunk, and have it taken."""
        try:
            # Not anyio's, which first looks up the backend: this is called for every chunk.
            await trio.lowlevel.wait_readable(self._raw)
            if self._take is None:
                return
            count = self._raw.recv_into(self._buffer)
        except BlockingIOError:
            return
        except trio.ClosedResourceError as error:
            if self._is_open():
                return  # only interrupted
            raise anyio.ClosedResourceError from error
        except (OSError, ValueError) as error:
            raise anyio.BrokenResourceError from error
        if not count:
            raise anyio.EndOfStream
        self.is_taking = True
        try:
            is_large = self._take(self._buffer[:count])
        finally:
            self.is_taking = False
        if is_large:
            self._buffer = self._large = self._large or memoryview(bytearray(LARGE_RECEIVE_BYTES))
        else:
            self._buffer = self._small

    def _is_open(self) -> bool:
        return not self._is_closed and self._raw.fileno() >= 0

    async def send(self, item: bytes) -> None:
        """See `DirectStream`."""
        rest = memoryview(item)
        while rest:
            try:
                rest = rest[self._raw.send(rest) :]
            except BlockingIOError:
                await self._wait_writable()
            except OSError as error:
                raise anyio.BrokenResourceError from error

    async def _wait_writable(self) -> None:
        try:
            await trio.lowlevel.wait_writable(self._raw)
        except trio.ClosedResourceError as error:
            if not self._is_open():
                raise anyio.ClosedResourceError from error

    def send_nowait(self, item: bytes) -> int:
        """See `DirectStream`."""
        try:
            return self._raw.send(item)
        except OSError:
            return 0

    async def aclose(self) -> None:
        """Close it. A checkpoint."""
        self._is_closed = True
        await self._stream.aclose()
