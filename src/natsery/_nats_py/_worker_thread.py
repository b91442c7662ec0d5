"""The other side of a bridge: the thread with the asyncio loop that nats-py's client lives in.

Functions named ``aio_…`` run in that thread, and nothing else does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, final

import anyio
from nats.aio.client import Client

from .._backends._asyncio import AsyncioWakeup
from .._errors import ConnectionClosedError, NatseryError
from .._events import ConnectionEvent, EventKind, Listener
from .._fast_path import Interest
from .._message import Message
from ._own_client import OwnClient
from ._safe_client import CLOSE_SECONDS, ClientSubscription, SafeClient
from ._thread_queue import ThreadQueue

if TYPE_CHECKING:
    from ._bridge import BridgedSubscription

ResultT = TypeVar("ResultT")

MAX_CROSSING_MESSAGES = 65_536
"""Messages that may wait on their way to the caller's loop; more are dropped, counted and reported."""

MAX_CROSSING_BYTES = 64 * 1024 * 1024
"""Bytes of payload that may wait on their way to the caller's loop; more are dropped, counted and reported."""

DEAF_SECONDS = 1.0
"""How long the caller's loop may leave a call unheard before this side looks whether it still runs."""

Inbound: TypeAlias = "tuple[BridgedSubscription, Message] | Callable[[], None]"
"""What goes to the caller's loop: a message, or what is to be called there."""

Outbound: TypeAlias = "bytes | Callable[[], Coroutine[Any, Any, None]]"
"""What comes from there: a frame to send, or what is to be awaited here."""


@final
class Outcome(Generic[ResultT]):
    """What a call over there came to, once ``done``."""

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.value: ResultT | None = None
        self.error: BaseException | None = None
        self.aio_task: asyncio.Task[None] | None = None

    def finish(self) -> None:
        """Let the caller go on; in the caller's loop."""
        self.done.set()


@final
class AioSubscription:
    """The half of a `BridgedSubscription` that is over there."""

    def __init__(self, side: WorkerThread, near: BridgedSubscription) -> None:
        self.dropped = 0
        self.has_told = False
        self._side = side
        self._near = near
        self._inner = ClientSubscription(
            Interest(near.subject, near.queue_group, self.aio_take, self.aio_on_error, near._message_type)
        )

    async def aio_subscribe(self) -> None:
        try:
            await self._side.client_side.subscribe(self._inner)
        except NatseryError as error:
            self.aio_on_error(error)

    async def aio_unsubscribe(self) -> None:
        await self._side.client_side.unsubscribe(self._inner)

    def aio_take(self, message: Message) -> None:
        inbound = self._side.inbound
        put_bytes = inbound.put_bytes + len(message.data)
        if len(inbound) < MAX_CROSSING_MESSAGES and put_bytes - inbound.taken_bytes <= MAX_CROSSING_BYTES:
            inbound.put_bytes = put_bytes
            inbound.put((self._near, message))
            return
        self.dropped += 1
        if not self.has_told:
            self.has_told = True
            inbound.put(self._near.take_dropped)

    def aio_on_error(self, error: NatseryError) -> None:
        self._side.inbound.put(lambda: self._near.take_error(error))


@final
class WorkerThread:
    """The thread, its loop and the client in it.

    Args:
        servers: for nats-py.
        options: for nats-py.
        emit: hears of what happens to the connection, in the caller's loop.
        ready: finished, in the caller's loop, when the client is connected or cannot be.
        outbound: what the caller's loop sends.
        wake_near: has the caller's loop look at ``inbound``.
        near_lives: whether the caller's loop still runs.

    Attributes:
        client: the client, connected or not.
        inbound: what the caller's loop is to take.
        loop: the loop, once it runs.
        wakeup: to be set, in this loop, when there is something in ``outbound``; once the client is connected.
        must_end: set by the caller's loop before it has `aio_end` called, for a thread that has no loop yet.
    """

    def __init__(
        self,
        servers: str | list[str],
        options: dict[str, Any],
        *,
        emit: Listener,
        ready: Outcome[None],
        outbound: ThreadQueue[Outbound],
        wake_near: Callable[[], None],
        near_lives: Callable[[], bool],
    ) -> None:
        self.client = OwnClient()
        self.inbound: ThreadQueue[Inbound] = ThreadQueue(self.aio_wake_near)
        self.outbound = outbound
        self.loop: asyncio.AbstractEventLoop | None = None
        self.wakeup: AsyncioWakeup | None = None
        self.must_end = False
        self._servers = servers
        self._options = options
        self._emit = emit
        self._ready = ready
        self._wake_near = wake_near
        self._near_lives = near_lives
        self._look: asyncio.TimerHandle | None = None
        self._is_ending = False
        self._main_task: asyncio.Task[None] | None = None

    def aio_thread(self) -> None:
        """Run the loop, and the client in it, until `aio_end`."""
        with asyncio.Runner() as runner:
            runner.run(self.aio_main())

    def aio_end(self) -> None:
        """Close the client and let the thread end."""
        if self._main_task is not None and not self._is_ending:
            self._is_ending = True
            self._main_task.cancel()

    def aio_wake_near(self) -> None:
        self._wake_near()
        if self._look is None:
            self._look = asyncio.get_running_loop().call_later(DEAF_SECONDS, self.aio_look)

    def aio_look(self) -> None:
        """See to it that the client goes too when the caller's loop has died without a word."""
        self._look = None
        if not self.inbound.is_woken:
            return
        if self._near_lives():
            self._look = asyncio.get_running_loop().call_later(DEAF_SECONDS, self.aio_look)
        else:
            self.aio_end()

    def aio_emit(self, event: ConnectionEvent) -> None:
        if event.kind is EventKind.CLOSED:
            # The thread has nothing left to do; its end tells the caller's loop.
            self.aio_end()
        self.inbound.put(lambda: self._emit(event))

    async def aio_fence(self) -> None:
        """See `SafeClient.fence`."""
        await self.client_side.fence()

    async def aio_tell(self, function: Callable[[], None]) -> None:
        """Have something called in the caller's loop when all that was sent before has been taken."""
        self.inbound.put(function)

    # The life of the client

    async def aio_main(self) -> None:
        self._main_task = asyncio.current_task()
        self.loop = asyncio.get_running_loop()
        with suppress(asyncio.CancelledError):  # `aio_end` is how the caller's side ends this thread
            if self.must_end:
                return
            try:
                await self.client.connect(self._servers, **self._options)
            except BaseException as error:  # noqa: ASYNC103  # raised by `bridge`, on the other side
                self._ready.error = ConnectionClosedError() if isinstance(error, asyncio.CancelledError) else error
                self.inbound.put(self._ready.finish)
                await aio_close_quietly(self.client)  # noqa: ASYNC102  # bounded by itself
                return  # noqa: ASYNC104
            await self.aio_serve()

    async def aio_serve(self) -> None:
        self.client_side = SafeClient(self.client, self.aio_emit)
        self.client_side.attach()
        try:
            async with asyncio.TaskGroup() as self._tasks:
                self._tasks.create_task(self.client_side.heal())
                self.wakeup = AsyncioWakeup()
                self.inbound.put(self._ready.finish)
                while True:
                    await self.aio_work(self.outbound.gathered())
                    self.outbound.is_at_work = False
                    await self.wakeup.wait()
        finally:
            await self.aio_finish()  # noqa: ASYNC102  # bounded by itself

    async def aio_finish(self) -> None:
        """Send what was sent before the end; what was called for is cancelled. Then close the client."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.aio_publish([item for item in self.outbound.gathered() if isinstance(item, bytes)])
        self.client_side.detach()
        await self.client_side.close()

    async def aio_work(self, items: deque[Outbound]) -> None:
        frames: list[bytes] = []
        while items:
            item = items.popleft()
            if isinstance(item, bytes):
                frames.append(item)
            else:
                await self.aio_publish(frames)
                await item()
        await self.aio_publish(frames)

    async def aio_publish(self, frames: list[bytes]) -> None:
        """Hand the frames to nats-py at one go, and forget them here."""
        if not frames:
            return
        outbound = self.outbound
        # A message that comes at this moment may be counted although it is not among the frames: a little early, never late.
        put_bytes = outbound.put_bytes
        payload_bytes = put_bytes - outbound.taken_bytes
        # While the server is away, any of them may be the one that is too many for nats-py's buffer.
        batches = [frames] if self.client.is_connected else [[frame] for frame in frames]
        for batch in batches:
            try:
                await self.client_side.publish(b"".join(batch), len(batch), payload_bytes)
            except Exception as error:
                self.aio_emit(ConnectionEvent(EventKind.ERROR, error))
            payload_bytes = 0
        outbound.taken_bytes = put_bytes
        frames.clear()

    # Calls

    def aio_start_call(self, outcome: Outcome[ResultT], function: Callable[[], Awaitable[ResultT]]) -> None:
        """Begin a call; ``outcome`` is finished when it has ended."""
        task = self._tasks.create_task(self.aio_call(outcome, function))
        outcome.aio_task = task
        # A callback, for a task that is cancelled before its first step never runs a `finally`.
        task.add_done_callback(lambda _: self.inbound.put(outcome.finish))

    async def aio_cancel_call(self, outcome: Outcome[Any]) -> None:
        """Cancel a call; ``outcome`` is finished when it has ended."""
        if outcome.aio_task is not None:
            outcome.aio_task.cancel()

    async def aio_call(self, outcome: Outcome[ResultT], function: Callable[[], Awaitable[ResultT]]) -> None:
        try:
            outcome.value = await function()
        except asyncio.CancelledError as error:  # noqa: ASYNC103
            # asyncio's own cancellation must not reach a task of another event loop.
            if self._is_ending:
                outcome.error = ConnectionClosedError("the bridge closed while the call was running")
            else:
                outcome.error = RuntimeError("the call was cancelled in nats-py's event loop")
                outcome.error.__cause__ = error
        except BaseException as error:  # raised by the caller, on the other side
            outcome.error = error


async def aio_close_quietly(client: Client) -> None:
    with suppress(Exception):
        async with asyncio.timeout(CLOSE_SECONDS):
            await client.close()
