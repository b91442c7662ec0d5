"""A TCP stream that uses the asyncio transport below an anyio stream."""

from __future__ import annotations

import asyncio
from contextvars import Context, ContextVar, copy_context
from typing import Any, final

import anyio
from anyio.abc import SocketStream
from anyio.lowlevel import checkpoint

from ._direct_stream import LARGE_RECEIVE_BYTES, RECEIVE_BYTES, DirectStream, Take

_library_name: ContextVar[str | None] | None
try:
    from sniffio import current_async_library_cvar as _library_name
except ImportError:  # pragma: no cover - trio brings it so far; without it, anyio does not use it either
    _library_name = None

_KNOWN_STATE = ("read_queue", "is_at_eof", "exception")
"""Attributes of anyio's protocol that are needed to replace it."""


def take_over(stream: SocketStream) -> AsyncioStream | None:
    """Return a stream that replaces this one on its transport, which must not be used afterwards.

    Returns ``None``, with nothing changed, if anyio does not keep the transport in the expected way.
    """
    transport = getattr(stream, "_transport", None)
    protocol = getattr(stream, "_protocol", None)
    if transport is None or not all(hasattr(protocol, name) for name in _KNOWN_STATE):
        return None
    return AsyncioStream(transport, protocol)


def _context_of_callbacks() -> Context:
    """Return a copy of the task's context in which anyio detects asyncio even if no task is running."""
    context = copy_context()
    if _library_name is not None:  # pragma: no branch - as above
        context.run(_library_name.set, "asyncio")
    return context


@final
class AsyncioStream(DirectStream, asyncio.BufferedProtocol):
    """A TCP stream that receives in callbacks of the event loop, and writes to the transport directly.

    anyio's stream resumes and pauses the transport, and wakes a task, for every chunk.

    Args:
        transport: the transport, with reading paused.
        previous: anyio's protocol, which is replaced.
    """

    def __init__(self, transport: asyncio.Transport, previous: Any) -> None:  # it has no public type
        self._transport = transport
        self._small = self._buffer = memoryview(bytearray(RECEIVE_BYTES))
        self._large: memoryview | None = None
        self._take: Take | None = None
        self._context = _context_of_callbacks()
        self._ended: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._unread: list[bytes] = list(previous.read_queue)
        self._is_at_end: bool = previous.is_at_eof or transport.is_closing()
        self._error: Exception | None = previous.exception
        self._is_full = transport.get_write_buffer_size() > 0
        self._is_closed = False
        transport.set_protocol(self)

    # Callbacks of the transport

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # asyncio passes it by position
        """Return the buffer to receive into."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Handle that this many bytes have been received."""
        assert self._take is not None  # or reading is paused
        chunk = self._buffer[:nbytes]
        if nbytes == len(self._buffer):
            # There is more. uvloop would receive up to two megabytes before running any task.
            self._transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._read_on)
        try:
            if self._context.run(self._take, chunk):
                self._buffer = self._large = self._large or memoryview(bytearray(LARGE_RECEIVE_BYTES))
            else:
                self._buffer = self._small
        except BaseException as error:  # noqa: ASYNC103  # raised by `receive_into`, in its task
            self._end(error)

    def _read_on(self) -> None:
        if self._take is not None:
            self._transport.resume_reading()

    def eof_received(self) -> bool:
        """Handle the end of the stream; the transport stays open for writing."""
        self._is_at_end = True
        self._end(anyio.EndOfStream())
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Handle that the transport has been closed."""
        self._is_at_end = True
        self._error = exc
        self._end(self._end_error())
        self.resume_writing()

    def pause_writing(self) -> None:
        """Handle that the transport's write buffer is not empty."""
        self._is_full = True

    def resume_writing(self) -> None:
        """Handle that the operating system has accepted everything that was written."""
        self._is_full = False
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    # The public methods

    async def receive_into(self, take: Take) -> None:
        """See `DirectStream`."""
        await checkpoint()
        while self._unread:
            take(memoryview(self._unread.pop(0)))
        if self._is_at_end:
            raise self._end_error()
        self._ended = asyncio.get_running_loop().create_future()
        self._take = take
        self._transport.resume_reading()
        try:
            await self._ended
        finally:
            self._take = None
            self._transport.pause_reading()

    def _end(self, error: BaseException) -> None:
        """Make ``receive_into`` raise the error."""
        self._take = None
        if self._ended is not None and not self._ended.done():
            self._ended.set_exception(error)

    def _end_error(self) -> Exception:
        """Return the error that says why the stream has ended."""
        if self._is_closed:
            return anyio.ClosedResourceError()
        if self._error is not None:
            broken = anyio.BrokenResourceError()
            broken.__cause__ = self._error
            return broken
        return anyio.EndOfStream()

    async def send(self, item: bytes) -> None:
        """See `DirectStream`."""
        await self._wait_writable()
        self._transport.write(item)
        await self._wait_writable()

    async def _wait_writable(self) -> None:
        while self._is_full:
            self._writable = asyncio.get_running_loop().create_future()
            await self._writable
        if self._transport.is_closing():
            raise anyio.BrokenResourceError from self._error

    def send_nowait(self, item: bytes) -> int:
        """See `DirectStream`."""
        if self._is_full or self._transport.is_closing():
            return 0
        self._transport.write(item)
        return len(item)

    async def aclose(self) -> None:
        """Close at once; what the operating system has not accepted is dropped. A checkpoint."""
        self._is_closed = True
        self._transport.abort()
        await checkpoint()
