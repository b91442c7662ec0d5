"""What is written through a nats-py client: whole, and out of the reach of cancellations.

nats-py 2.16 breaks or ignores a cancellation that reaches one of its coroutines while that waits. So one that may have to
wait runs in a separate task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, final

import nats.errors
from nats.aio.client import Client
from nats.aio.transport import TcpTransport, Transport

from .._backends._sockets import put_empty_file_at
from .._errors import ConnectionClosedError, OutboundBufferError, PublishError
from .._protocol import _commands

ResultT = TypeVar("ResultT")

CONTROL_LINE_BYTES = 4096
"""Room for a command without a payload."""


@final
class ClientWriter:
    """Writes messages and commands of natsery's through a client of the running loop.

    Args:
        client: the client, connected or not.
        raise_if_closed: raises `ConnectionClosedError` once it is closed for good.

    Attributes:
        unanswered: messages since the last answer that did not follow another at once.
    """

    def __init__(self, client: Client, raise_if_closed: Callable[[], None]) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.unanswered: int = 0
        self._client = client
        self._raise_if_closed = raise_if_closed
        self._writing: set[asyncio.Task[Any]] = set()
        self._flushing: asyncio.Task[Any] | None = None
        self._line = asyncio.Lock()  # held by the sender that waits for room

    async def publish(self, frames: bytes, messages: int, payload_bytes: int) -> None:
        """Take whole frames into the client's own buffer, as ``Client.publish`` does with one; waits if that is too full.

        Raises:
            ConnectionClosedError, OutboundBufferError: nothing was taken.
            PublishError: the connection broke.
        """
        client = self._client
        limit = client._max_pending_size
        if 0 < 2 * limit < client._pending_data_size:
            # Before it takes more, for senders that give up leave theirs behind; and one after another, for to wake all of
            # them whenever there is room for a few would cost the square of their number.
            async with self._line:
                while 2 * limit < client._pending_data_size and client.is_connected:
                    await self._flush()
        if client._status != Client.CONNECTED:
            self._raise_if_closed()
            if client.is_draining_pubs:
                raise ConnectionClosedError("the nats-py client is draining")
            if not client.is_connected and client._pending_data_size + len(frames) > limit:
                raise OutboundBufferError
        client._pending.append(frames)
        client._pending_data_size += len(frames)
        self._count_sent(messages, payload_bytes)
        kicks = client._flush_queue
        if 0 < limit < client._pending_data_size:
            await self._flush()
        elif kicks is not None and kicks.empty():
            try:
                await self.write(client._flush_pending(), 0)
            except OSError as error:
                raise PublishError(f"nats-py could not publish: {error}") from error

    async def _flush(self) -> None:
        """Wait until nats-py has written what waits in its buffer; all tasks that do so share one task of nats-py's."""
        flushing = self._flushing
        if flushing is None or flushing.done():
            flushing = self._flushing = self.start_writing(self._client._flush_pending(force_flush=True))
        await asyncio.wait((flushing,))
        try:
            if not flushing.cancelled():
                flushing.result()
        except (nats.errors.Error, OSError) as error:
            raise PublishError(f"nats-py could not publish: {error}") from error

    def stop_flushing(self) -> None:
        """Wake those who wait until nats-py has written: its flusher has ended, and it would have them wait for the next."""
        if self._flushing is not None:
            self._flushing.cancel()

    def takes_at_once(self, size: int) -> bool:
        """Whether nats-py takes so many bytes without waiting; a cancellation can only reach a coroutine that waits."""
        client = self._client
        kicks, flusher = client._flush_queue, client._flusher_task
        return (
            kicks is not None
            and not kicks.full()
            and not 0 < client._max_pending_size < client._pending_data_size + size
            and flusher is not None
            and not flusher.done()
        )

    async def write(self, writing: Coroutine[Any, Any, ResultT], size: int = CONTROL_LINE_BYTES) -> ResultT:
        """Await a coroutine of nats-py's; cancelled meanwhile, it goes on without this task."""
        if self.takes_at_once(size):
            return await writing
        task = self.start_writing(writing)
        await asyncio.wait((task,))
        return outcome_of(task)

    def start_writing(self, writing: Coroutine[Any, Any, ResultT]) -> asyncio.Task[ResultT]:
        """Have a coroutine of nats-py's run in a task that no cancellation of a caller reaches."""
        task = self.loop.create_task(writing)
        self._writing.add(task)
        task.add_done_callback(self._on_written)
        return task

    def cancel(self) -> None:
        """Cancel what is being written, since the client is closed or detached."""
        for task in self._writing:
            task.cancel()

    def _on_written(self, task: asyncio.Task[Any]) -> None:
        self._writing.discard(task)
        forget_outcome(task)

    def answer_nowait(self, reply: str, data: bytes) -> bool:
        """Publish to a reply subject off the wire, if that needs no waiting; false if it does, with nothing done."""
        client = self._client
        kicks = client._flush_queue
        size = len(data)
        if (
            kicks is None
            or client._status != Client.CONNECTED
            or size > client._max_payload
            or 0 < client._max_pending_size < client._pending_data_size
        ):
            return False
        frame = _commands.publish_reply(reply, data)
        if not kicks.empty():  # the client's flusher is about to look
            client._pending.append(frame)
            client._pending_data_size += len(frame)
            # `_count_sent`, written out: a call less for every request.
            stats = client.stats
            stats["out_msgs"] += 1
            stats["out_bytes"] += size
            return True
        is_lone, self.unanswered = self.unanswered == 1, 0
        return is_lone and self.write_nowait(frame, 1, size)

    def write_nowait(self, frames: bytes, messages: int, payload_bytes: int) -> bool:
        """Write whole frames to the socket, a turn of the loop before nats-py's flusher would; false, with nothing done, if
        something waits to be sent before them.
        """
        client = self._client
        transport = client._transport
        if (
            client._status != Client.CONNECTED
            or client._pending_data_size
            or transport is None
            or not _is_clear(transport)
        ):
            return False
        transport.write(frames)
        self._count_sent(messages, payload_bytes)
        return True

    def push(self) -> None:
        """Write to the socket what waits for nats-py's flusher, if the operating system takes it."""
        client = self._client
        transport = client._transport
        if client._status == Client.CONNECTED and client._pending and transport is not None and _is_clear(transport):
            transport.writelines(client._pending)
            client._pending = []
            client._pending_data_size = 0

    def _count_sent(self, messages: int, payload_bytes: int) -> None:
        stats = self._client.stats
        stats["out_msgs"] += messages
        stats["out_bytes"] += payload_bytes

    # The socket

    def abort(self) -> None:
        """Drop the client's socket, with what has not been written to it."""
        transport = self.tcp_transport()
        if transport is not None:
            transport.abort()

    def tcp_transport(self) -> asyncio.WriteTransport | None:
        """Return asyncio's transport; none before the first, and none of a WebSocket, which has no way to abort."""
        transport = self._client._transport
        writer = transport._io_writer if type(transport) is TcpTransport else None
        return None if writer is None else writer.transport

    def let_go(self) -> None:
        """Close the client's socket in a forked process, which would keep a connection that the client gives up open."""
        transport = self.tcp_transport()
        sock = None if transport is None else transport.get_extra_info("socket")
        if sock is not None:
            put_empty_file_at(sock.fileno())  # -1 once it is closed


def outcome_of(task: asyncio.Task[ResultT]) -> ResultT:
    """Return what a task has returned; its cancellation is not that of the task that asks."""
    if task.cancelled():
        raise ConnectionClosedError("the block of the nats-py client was left meanwhile")
    return task.result()


def forget_outcome(task: asyncio.Task[Any]) -> None:
    """Keep asyncio from complaining that no task looked at what this one raised."""
    if not task.cancelled():
        task.exception()


def _is_clear(transport: Transport) -> bool:
    """Whether the operating system has all that was written, and takes more."""
    writer = transport._io_writer if type(transport) is TcpTransport else None
    if writer is None:
        return False
    socket = writer.transport
    return not socket.get_write_buffer_size() and not socket.is_closing()
