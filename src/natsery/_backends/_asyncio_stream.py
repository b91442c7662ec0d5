"""A TCP stream over asyncio's own transport."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from typing import Any, final

import anyio
from anyio.abc import SocketStream
from anyio.lowlevel import checkpoint

from ._plain_stream import PlainStream

_library_name: ContextVar[str | None] | None
try:
    from sniffio import current_async_library_cvar as _library_name
except ImportError:  # then anyio does without, too
    _library_name = None

RECEIVE_BYTES = 64 * 1024

_KNOWN_STATE = ("read_queue", "is_at_eof", "exception")


def take_over(stream: SocketStream) -> AsyncioStream | None:
    """The stream's transport with a protocol of ours, if anyio keeps it as we know it; ``stream`` is of no use then."""
    transport = getattr(stream, "_transport", None)
    protocol = getattr(stream, "_protocol", None)
    if transport is None or not all(hasattr(protocol, name) for name in _KNOWN_STATE):
        return None
    return AsyncioStream(transport, protocol)


def _context_of_callbacks() -> Context:
    """The running task's context, in which anyio knows also where no task runs that it is on asyncio."""
    context = copy_context()
    if _library_name is not None:
        context.run(_library_name.set, "asyncio")
    return context


@final
class AsyncioStream(PlainStream, asyncio.BufferedProtocol):
    """A TCP stream that takes what comes in the event loop's own callbacks, and writes to the transport at once.

    anyio's has the loop begin and end to look at its socket, and wakes a task, for every piece.

    Args:
        transport: the transport, not reading.
        previous: anyio's protocol, which it had so far.
    """

    def __init__(self, transport: asyncio.Transport, previous: Any) -> None:  # it has no public type
        self._transport = transport
        self._buffer = memoryview(bytearray(RECEIVE_BYTES))
        self._take: Callable[[bytes], None] | None = None
        self._context = _context_of_callbacks()
        self._over: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._unread: list[bytes] = list(previous.read_queue)
        self._is_at_end: bool = previous.is_at_eof or transport.is_closing()
        self._error: Exception | None = previous.exception
        self._is_full = transport.get_write_buffer_size() > 0
        self._is_closed = False
        transport.set_protocol(self)

    # What the transport tells

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # asyncio's way to call it
        """Where what comes is to be written."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes have come."""
        if self._take is not None:
            if nbytes == RECEIVE_BYTES:
                # There is more. uvloop would give up to two megabytes of it before any task has its turn.
                self._transport.pause_reading()
                asyncio.get_running_loop().call_soon(self._read_on)
            try:
                self._context.run(self._take, bytes(self._buffer[:nbytes]))
            except BaseException as error:  # noqa: ASYNC103  # raised by `receive_into`, in its task
                self._end(error)

    def _read_on(self) -> None:
        if self._take is not None:
            self._transport.resume_reading()

    def eof_received(self) -> bool:
        """Nothing more comes, but there may be somebody who reads."""
        self._is_at_end = True
        self._end(anyio.EndOfStream())
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._is_at_end = True
        self._error = exc
        self._end(self._reason())
        self.resume_writing()

    def pause_writing(self) -> None:
        """The operating system takes no more."""
        self._is_full = True

    def resume_writing(self) -> None:
        """The operating system has all that was written."""
        self._is_full = False
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    # What its users call

    async def receive_into(self, take: Callable[[bytes], None]) -> None:
        """See `PlainStream`."""
        await checkpoint()
        while self._unread:
            take(self._unread.pop(0))
        if self._is_at_end:
            raise self._reason()
        self._over = asyncio.get_running_loop().create_future()
        self._take = take
        self._transport.resume_reading()
        try:
            await self._over
        finally:
            self._take = None
            self._transport.pause_reading()

    def _end(self, error: BaseException) -> None:
        """Have ``receive_into`` raise."""
        self._take = None
        if self._over is not None and not self._over.done():
            self._over.set_exception(error)

    def _reason(self) -> Exception:
        """Why nothing comes or goes any more."""
        if self._is_closed:
            return anyio.ClosedResourceError()
        if self._error is not None:
            broken = anyio.BrokenResourceError()
            broken.__cause__ = self._error
            return broken
        return anyio.EndOfStream()

    async def send(self, item: bytes) -> None:
        """See `PlainStream`."""
        await self._wait_for_room()
        self._transport.write(item)
        await self._wait_for_room()

    async def _wait_for_room(self) -> None:
        while self._is_full:
            self._room = asyncio.get_running_loop().create_future()
            await self._room
        if self._transport.is_closing():
            raise anyio.BrokenResourceError from self._error

    def send_nowait(self, item: bytes) -> int:
        """See `PlainStream`."""
        if self._is_full or self._transport.is_closing():
            return 0
        self._transport.write(item)
        return len(item)

    async def aclose(self) -> None:
        """Close it at once; what the operating system has not taken is dropped. A checkpoint."""
        self._is_closed = True
        self._transport.abort()
        await checkpoint()
