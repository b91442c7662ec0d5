"""nats-py's side of a bridge: a thread with an asyncio loop and the client in it.

Functions named ``aio_…`` run in that thread, and nothing else does.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeAlias, final

from nats.aio.client import Client

from .._errors import ConnectionClosedError, NatseryError, OutboundBufferError
from .._events import ConnectionEvent, EventKind, Listener
from .._fast_path import Interest
from .._message import Message
from ._bounds import CANCEL_SECONDS, CLOSE_SECONDS, SILENCE_SECONDS
from ._private_names import check_private_names
from ._remote_call import RemoteCall
from ._safe_client import ClientSubscription, SafeClient, cancel_until_done
from ._thread_queue import MESSAGE_BYTES, ThreadQueue

if TYPE_CHECKING:
    from ._bridge import BridgedSubscription

logger = logging.getLogger("natsery")

MAX_CROSSING_BYTES = 64 * 1024 * 1024
"""Bytes of messages, headers and subjects counted, that may wait on their way to the caller's loop; more are dropped, counted
and reported.
"""

Inbound: TypeAlias = "tuple[BridgedSubscription, Message, int] | Callable[[], None]"
"""What goes to the caller's loop: a message and its size, or a function to call there."""

Outbound: TypeAlias = "bytes | Callable[[], Awaitable[None]]"
"""What comes from there: a frame to send, or a coroutine function to await here."""


@final
class AioSubscription:
    """The half of a `BridgedSubscription` that is in nats-py's thread."""

    def __init__(self, thread: WorkerThread, near: BridgedSubscription) -> None:
        self.dropped = 0
        self.has_told = False
        self._thread = thread
        self._near = near
        self._inner: ClientSubscription | None = None

    async def aio_subscribe(self) -> None:
        near = self._near
        interest = Interest(near.subject, near.queue_group, self.aio_take, self.aio_on_error, near._message_type)
        try:
            self._inner = await self._thread.aio_client.subscribe(interest)
        except NatseryError as error:
            self.aio_on_error(error)

    async def aio_unsubscribe(self) -> None:
        if self._inner is not None:
            await self._thread.aio_client.unsubscribe(self._inner)

    def aio_take(self, message: Message) -> None:
        inbound = self._thread.inbound
        size = len(message.data) + message.headers._size + len(message.subject) + len(message.reply) + MESSAGE_BYTES
        put_bytes = inbound.put_bytes + size
        if put_bytes - inbound.taken_bytes <= MAX_CROSSING_BYTES:
            inbound.put_bytes = put_bytes
            inbound.put((self._near, message, size))
            return
        self.dropped += 1
        if not self.has_told:
            self.has_told = True
            inbound.put(self._near.take_dropped)

    def aio_on_error(self, error: NatseryError) -> None:
        self._thread.inbound.put(lambda: self._near.take_error(error))


@final
class AioHold:
    """What keeps a client that is drained from closing before the caller's loop is ready.

    Args:
        thread: the client's thread.
        on_drain: called in the caller's loop when the client is drained.
    """

    def __init__(self, thread: WorkerThread, on_drain: Callable[[], None]) -> None:
        self._thread = thread
        self._on_drain = on_drain
        self._aio_end: Callable[[], None]

    async def aio_begin(self) -> None:
        self._aio_end = self._thread.aio_client.hold_open(self.aio_drain)

    async def aio_release(self) -> None:
        self._aio_end()

    def aio_drain(self) -> None:
        self._thread.inbound.put(self._on_drain)


@final
class WorkerThread:
    """The thread, its loop and the client in it.

    Args:
        outbound: what the caller's loop sends.
        emit: told of what happens to the connection, in the caller's loop.
        on_taken: called in the caller's loop when more of ``outbound`` was taken while that is awaited.
        wake_caller: has the caller's loop look at ``inbound``; false if that loop has ended.

    Attributes:
        client: the client, connected or not.
        inbound: what the caller's loop is to take.
        loop: this thread's event loop.

    Raises:
        BackendMismatchError: natsery does not support the installed version of nats-py.
    """

    aio_client: SafeClient

    def __init__(
        self,
        outbound: ThreadQueue[Outbound],
        *,
        emit: Listener,
        on_taken: Callable[[], None],
        wake_caller: Callable[[], bool],
    ) -> None:
        self.client = Client()
        check_private_names(self.client)
        self.inbound: ThreadQueue[Inbound] = ThreadQueue(self.aio_wake_caller_soon)
        self.outbound = outbound
        self.loop = asyncio.new_event_loop()
        self._emit = emit
        self._on_taken = on_taken
        self._wake_caller = wake_caller
        self._wakeup = asyncio.Event()
        self._end = asyncio.Event()
        self._calls: set[asyncio.Task[None]] = set()
        self._look: asyncio.TimerHandle | None = None
        self._sent_payload_bytes = 0

    # In the caller's thread

    def wake(self) -> None:
        """Have this thread look at ``outbound``."""
        self.call_soon(self._wakeup.set)

    def call_soon(self, aio_function: Callable[[], object]) -> None:
        """Have something called in this thread, before what waits in ``outbound``."""
        try:
            self.loop.call_soon_threadsafe(aio_function)
        except RuntimeError:
            pass  # the loop is closed, and the end of the thread tells the caller's loop

    # The life of the thread

    def aio_thread(self) -> None:
        """Run the loop, and the client in it, until `aio_end`."""
        loop = self.loop
        executor = ThreadPoolExecutor(thread_name_prefix="natsery bridge")
        loop.set_default_executor(executor)
        try:
            loop.run_until_complete(self.aio_live())
        finally:
            try:
                loop.run_until_complete(self.aio_wind_up())
            finally:
                loop.close()
                # In a thread, to have a bound: a resolver that hangs cannot be interrupted.
                joiner = threading.Thread(target=executor.shutdown, name="natsery bridge end", daemon=True)
                joiner.start()
                joiner.join(CANCEL_SECONDS)

    def aio_end(self) -> None:
        """Close the client and let the thread end."""
        self._end.set()

    async def aio_live(self) -> None:
        self.aio_client = SafeClient(self.client)
        self._work = self.loop.create_task(self.aio_work())
        end = self.loop.create_task(self._end.wait())
        await asyncio.wait((self._work, end), return_when=asyncio.FIRST_COMPLETED)
        if self._work.done():
            self._work.result()

    async def aio_wind_up(self) -> None:
        """Send what was sent before the end, close the client, and end every task, within a bound whatever nats-py does.

        `asyncio.Runner` has no such bound: it waits for tasks that nats-py has let swallow their cancellation.
        """
        self.loop.set_exception_handler(aio_log)
        finishing = self.loop.create_task(self.aio_finish())
        await asyncio.wait((finishing,), timeout=CLOSE_SECONDS)
        self.aio_client.writer.abort()
        await cancel_until_done(aio_other_tasks, CANCEL_SECONDS)
        generators = self.loop.create_task(self.loop.shutdown_asyncgens())
        await asyncio.wait((generators,), timeout=CANCEL_SECONDS)
        await cancel_until_done(aio_other_tasks, CANCEL_SECONDS)
        await asyncio.sleep(0)  # the aborted transport closes its socket
        for task in aio_other_tasks():
            logger.warning("a task in nats-py's event loop does not end when it is cancelled: %r", task)

    async def aio_finish(self) -> None:
        tasks = (self._work, *self._calls)
        for task in tasks:
            task.cancel()
        # Also for the call that connects: nats-py would go on connecting after it was closed.
        await asyncio.wait(tasks, timeout=CANCEL_SECONDS)
        if self.client.is_connected:
            await self.aio_publish([item for item in self.outbound.gathered() if isinstance(item, bytes)])
            await self.aio_client.reach_server()
        self.aio_client.detach()
        await self.aio_client.close()

    # What the caller's loop sends

    async def aio_work(self) -> None:
        while True:
            await self.aio_handle(self.outbound.gathered())
            await self._wakeup.wait()
            self._wakeup.clear()

    async def aio_handle(self, items: deque[Outbound]) -> None:
        frames: list[bytes] = []
        while items:
            item = items.popleft()
            if isinstance(item, bytes):
                frames.append(item)
                continue
            await self.aio_publish(frames)
            try:
                await item()
            except Exception as error:
                self.aio_emit(ConnectionEvent(EventKind.ERROR, error))
        await self.aio_publish(frames)

    async def aio_publish(self, frames: list[bytes]) -> None:
        """Hand the frames to nats-py in one piece, and empty the list."""
        if not frames:
            return
        outbound = self.outbound
        # A message that comes at this moment may be counted although it is not among the frames: a little early, never late.
        put_bytes = outbound.put_bytes
        payload_bytes, self._sent_payload_bytes = (
            outbound.put_payload_bytes - self._sent_payload_bytes,
            outbound.put_payload_bytes,
        )
        # While the server is away, any of them may be the one that is too many for nats-py's buffer.
        batches = [frames] if self.client.is_connected else [[frame] for frame in frames]
        for batch in batches:
            joined = b"".join(batch)
            try:
                if not self.aio_client.writer.write_nowait(joined, len(batch), payload_bytes):
                    await self.aio_publish_when_there_is_room(joined, len(batch), payload_bytes)
            except Exception as error:
                self.aio_emit(ConnectionEvent(EventKind.ERROR, error))
            payload_bytes = 0
        outbound.taken_bytes = put_bytes
        frames.clear()
        if outbound.is_awaited:
            self.inbound.put(self._on_taken)

    async def aio_publish_when_there_is_room(self, frames: bytes, messages: int, payload_bytes: int) -> None:
        """Publish; while the server is away and nats-py's buffer is full, the caller's loop is told by what is not taken."""
        while True:
            try:
                await self.aio_client.writer.publish(frames, messages, payload_bytes)
            except OutboundBufferError:
                await self.aio_client.wait_changed()
            else:
                return

    async def aio_connect(self, servers: str | list[str], options: dict[str, Any]) -> None:
        await self.client.connect(servers, **options)
        self.aio_client.attach(self.aio_emit)
        self._heal = self.loop.create_task(self.aio_client.heal())

    async def aio_fence(self) -> None:
        """See `SafeClient.fence`."""
        await self.aio_client.fence()

    # What it receives

    def aio_emit(self, event: ConnectionEvent) -> None:
        if event.kind is EventKind.CLOSED:
            # The thread has nothing left to do; its end tells the caller's loop.
            self.aio_end()
        self.inbound.put(lambda: self._emit(event))

    def aio_wake_caller_soon(self) -> None:
        """Wake the caller's loop when nats-py has read all that came together."""
        self.loop.call_soon(self.aio_wake_caller)

    def aio_wake_caller(self) -> None:
        if not self._wake_caller():
            self.aio_end()
        elif self._look is None:
            self._look = self.loop.call_later(SILENCE_SECONDS, self.aio_look)

    def aio_look(self) -> None:
        """Close the client when the caller's loop has died, which closes nothing itself then."""
        self._look = None
        if self.inbound.is_woken:
            self.aio_wake_caller()

    # Calls

    async def aio_start_call(self, call: RemoteCall[Any]) -> None:
        """Begin a call, unless it was cancelled before."""
        if call.is_cancelled:
            return
        task = call.aio_task = self.loop.create_task(self.aio_call(call))
        self._calls.add(task)
        # A callback, for a task that is cancelled before its first step never runs a `finally`.
        task.add_done_callback(lambda task: self.aio_end_call(call, task))

    def aio_end_call(self, call: RemoteCall[Any], task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        self.inbound.put(call.done.set)

    def aio_cancel_call(self, call: RemoteCall[Any]) -> None:
        """Cancel a call, begun or not."""
        if call.aio_task is not None:
            call.aio_task.cancel()
        else:
            call.is_cancelled = True
            self.inbound.put(call.done.set)

    async def aio_call(self, call: RemoteCall[Any]) -> None:
        try:
            call.value = await call.aio_function()
        except asyncio.CancelledError as error:  # noqa: ASYNC103
            # asyncio's own cancellation must not reach a task of another event loop.
            if self._end.is_set():
                call.error = ConnectionClosedError("the bridge closed while the call was running")
            else:
                call.error = RuntimeError("the call was cancelled in nats-py's event loop")
                call.error.__cause__ = error
        except BaseException as error:  # raised by the caller, in its own loop
            call.error = error


def aio_other_tasks() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {task for task in (asyncio.current_task(),) if task is not None}


def aio_log(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:  # noqa: ARG001  # asyncio's parameters
    """What asyncio would complain of at the end: that nats-py leaves tasks and exceptions to themselves."""
    logger.debug("after the end of a bridge: %s", context.get("message"), exc_info=context.get("exception"))
