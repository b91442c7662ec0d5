"""`bridge`: nats-py in an asyncio loop in a worker thread, as a connection for trio (and any other) programs.

Functions named ``aio_…`` run in the asyncio thread; everything else runs in the caller's event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar, TypeVarTuple, final

import anyio
import anyio.to_thread
from anyio import get_cancelled_exc_class
from anyio.lowlevel import checkpoint
from nats.aio.client import Client

from .. import abc
from .._adr32 import check_queue_group, check_subject, new_id
from .._backends._asyncio import AsyncioWakeup
from .._connection_base import ConnectionBase
from .._errors import ConnectionClosedError, NatseryError, SlowConsumerError
from .._interrupts import protect_from_interrupt
from .._tasks import background_tasks
from .._wakeup import new_wakeup
from ._client import CLOSE_SECONDS, ClientSide, ClientSubscription
from ._crossing import Lane, calls_into_this_loop
from ._own_client import OwnClient
from ._publication import publication

logger = logging.getLogger("natsery")

ResultT = TypeVar("ResultT")
ArgsT = TypeVarTuple("ArgsT")

MAX_CROSSING_MESSAGES = 65_536
"""Messages that may wait on their way here; more are dropped, counted and reported."""

MAX_CROSSING_BYTES = 64 * 1024 * 1024
"""Bytes of payload that may wait on their way here; more are dropped, counted and reported."""

ITEMS_BETWEEN_YIELDS = 256
"""Items that are handed over here before other tasks get their turn."""

HIGH_WATER_BYTES = 8 * 1024 * 1024
"""Bytes of payload on their way to nats-py over which ``send`` waits."""

CALL_CANCEL_SECONDS = 5.0
"""How long a cancelled ``call`` is given to end over there."""

_Inbound: TypeAlias = "tuple[BridgedSubscription, abc.Message] | Callable[[], None]"
_Outbound: TypeAlias = "bytes | Callable[[], Coroutine[Any, Any, None]]"


@asynccontextmanager
async def bridge(
    servers: str | Sequence[str] = "nats://127.0.0.1:4222", **options: Any
) -> AsyncIterator[BridgedConnection]:
    """Connect with nats-py, in an asyncio loop in a worker thread, for the length of a block::

        async with natsery.bridge("nats://127.0.0.1:4222", user="me", password="secret") as nc:
            ...

    Args:
        servers: one URL or several.
        options: those of ``nats.connect``; callbacks among them run in the worker thread.

    Raises:
        TypeError: nats-py has no such option.
        nats.errors.Error, OSError: what nats-py raises when it cannot connect.

    Leaving the block closes the connection and ends the thread, within a few seconds whatever the server does.

    **Cancellation:** the thread has ended before it goes on.
    """
    urls = servers if isinstance(servers, str) else list(servers)
    connection = BridgedConnection(urls, options)
    protect_from_interrupt(BridgedConnection._receive, BridgedConnection._run_thread)
    async with background_tasks() as tasks:
        tasks.start_soon(connection._receive, name="natsery bridge intake")
        tasks.start_soon(connection._run_thread, name="natsery bridge thread")
        try:
            await connection._wait_ready()
            yield connection
        finally:
            connection._end()


@final
class _Outcome(Generic[ResultT]):
    """What a call over there came to, once ``done``."""

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.value: ResultT | None = None
        self.error: BaseException | None = None
        self.aio_task: asyncio.Task[None] | None = None

    def finish(self) -> None:
        self.done.set()


@final
class BridgedSubscription(abc.Subscription):
    """A subscription of a client in the other loop."""

    def __init__(
        self,
        connection: BridgedConnection,
        subject: str,
        queue_group: str,
        deliver: abc.Deliver,
        on_error: Callable[[NatseryError], None] | None,
    ) -> None:
        self.subject = subject
        self.queue_group = queue_group
        self.delivered = 0
        self.dropped = 0
        self.deliver = deliver
        self._connection = connection
        self._on_error = on_error
        self.aio_dropped = 0
        self.aio_has_told = False
        self.aio_inner = ClientSubscription(subject, queue_group, self.aio_take, self.aio_on_error)

    async def unsubscribe(self) -> None:
        """See `abc.Subscription`."""
        self._connection._outbound.put(self.aio_unsubscribe)

    def take_error(self, error: NatseryError) -> None:
        if self._on_error is not None:
            self._on_error(error)

    def take_dropped(self) -> None:
        """Hear of messages that were dropped in the other thread."""
        self.aio_has_told = False  # before the look: what is dropped after it is told anew
        dropped = self.aio_dropped
        if dropped > self.dropped:
            self.dropped = dropped
            self.take_error(SlowConsumerError(self.subject, dropped))

    def aio_take(self, message: abc.Message) -> None:
        connection = self._connection
        inbound = connection._inbound
        posted_bytes = connection.aio_posted_bytes + len(message.data)
        if len(inbound) < MAX_CROSSING_MESSAGES and posted_bytes - connection._taken_bytes <= MAX_CROSSING_BYTES:
            connection.aio_posted_bytes = posted_bytes
            inbound.put((self, message))
            return
        self.aio_dropped += 1
        if not self.aio_has_told:
            self.aio_has_told = True
            inbound.put(self.take_dropped)

    def aio_on_error(self, error: NatseryError) -> None:
        self._connection._inbound.put(lambda: self.take_error(error))

    async def aio_subscribe(self) -> None:
        try:
            await self._connection.aio_side.subscribe(self.aio_inner)
        except NatseryError as error:
            self.aio_on_error(error)

    async def aio_unsubscribe(self) -> None:
        await self._connection.aio_side.unsubscribe(self.aio_inner)


@final
class BridgedConnection(ConnectionBase):
    """A nats-py client in an asyncio loop in a worker thread; made by ``bridge``."""

    def __init__(self, servers: str | list[str], options: dict[str, Any]) -> None:
        prefix = options.get("inbox_prefix", "_INBOX")
        super().__init__(f"{prefix.decode() if isinstance(prefix, bytes) else prefix}.{new_id()}")
        self._servers = servers
        self._options = options
        self._here = calls_into_this_loop()
        self._wakeup = new_wakeup()
        self._inbound: Lane[_Inbound] = Lane(self.aio_wake_here)
        self._outbound: Lane[_Outbound] = Lane(self._wake_there)
        self._ready: _Outcome[None] = _Outcome()
        self._outcomes: set[_Outcome[Any]] = set()
        self._is_ending = False
        self._low_water: anyio.Event | None = None
        # Each total is written by one thread alone; their differences are what is on the way.
        self._taken_bytes = 0
        self._sent_bytes = 0
        self.aio_posted_bytes = 0
        self.aio_published_bytes = 0
        self.aio_is_ending = False
        self.aio_client: Client = OwnClient()
        self.aio_loop: asyncio.AbstractEventLoop | None = None
        self.aio_wakeup: AsyncioWakeup | None = None
        self.aio_main_task: asyncio.Task[None] | None = None

    # The caller's side

    @property
    def client(self) -> Client:
        """The nats-py client; use it through ``call`` only, for it lives in the other thread's loop."""
        return self.aio_client

    @property
    def max_payload(self) -> int:
        """See `abc.Connection`."""
        return self.aio_client.max_payload

    @property
    def is_connected(self) -> bool:
        """See `abc.Connection`."""
        return not self._closed.is_set() and self.aio_client.is_connected

    async def send(
        self, subject: str, data: bytes = b"", *, reply: str = "", headers: abc.HeadersInput | None = None
    ) -> None:
        """See `abc.Connection`."""
        if self._is_closed:
            raise ConnectionClosedError
        frame = publication(subject, data, reply, headers, self.aio_client._max_payload)
        self._sent_bytes += len(data)
        self._outbound.put(frame)
        if self._sent_bytes - self.aio_published_bytes > HIGH_WATER_BYTES:
            await self._wait_low_water()

    async def add_subscription(
        self,
        subject: str,
        deliver: abc.Deliver,
        *,
        queue_group: str = "",
        on_error: Callable[[NatseryError], None] | None = None,
    ) -> abc.Subscription:
        """See `abc.Connection`."""
        check_subject("subject", subject)
        if queue_group:
            check_queue_group("queue_group", queue_group)
        self._raise_if_closed()
        subscription = BridgedSubscription(self, subject, queue_group, deliver, on_error)
        self._outbound.put(subscription.aio_subscribe)
        return subscription

    async def flush(self) -> None:
        """See `abc.Connection`."""
        await self._run_over_there(lambda _client: self.aio_side.fence())

    async def call(self, fn: Callable[[Client, *ArgsT], Awaitable[ResultT]], *args: *ArgsT) -> ResultT:
        """Run ``fn(client, *args)`` in the client's own loop and return what it returns, or raise what it raises::

            ack = await nc.call(lambda client: client.jetstream().publish("orders", b"1"))

        It runs after everything that was sent before it.

        Raises:
            ConnectionClosedError: the bridge is closed or closes meanwhile.
            RuntimeError: ``fn`` was cancelled over there, by nobody here.

        **Cancellation:** ``fn`` is cancelled over there and has ended before this raises. A checkpoint.
        """

        async def aio_call(client: Client) -> ResultT:
            return await fn(client, *args)

        return await self._run_over_there(aio_call)

    async def aclose(self) -> None:
        """See `abc.Connection`; the thread ends soon after."""
        self._end()
        # Protects nothing that could hang: the other side bounds its own closing.
        with anyio.move_on_after(2 * CLOSE_SECONDS, shield=True):
            await self.wait_closed()
        await checkpoint()

    def _wake_there(self) -> None:
        loop, wakeup = self.aio_loop, self.aio_wakeup
        if loop is not None and wakeup is not None:  # else it has not begun to look
            with suppress(RuntimeError):  # it has ended, and `_run_thread` is about to tell
                loop.call_soon_threadsafe(wakeup.set)

    async def _run_over_there(self, function: Callable[[Client], Awaitable[ResultT]]) -> ResultT:
        await checkpoint()
        self._raise_if_closed()
        outcome: _Outcome[ResultT] = _Outcome()

        async def aio_start() -> None:
            self.aio_start_call(outcome, function)

        self._outcomes.add(outcome)
        self._outbound.put(aio_start)
        try:
            await outcome.done.wait()
        except get_cancelled_exc_class():
            self._outbound.put(lambda: self.aio_cancel_call(outcome))
            # Protects the far side from being abandoned half way; it is bounded because its code may refuse to end.
            with anyio.move_on_after(CALL_CANCEL_SECONDS, shield=True):
                await outcome.done.wait()
            raise
        finally:
            self._outcomes.discard(outcome)
        if outcome.error is not None:
            raise outcome.error
        return outcome.value  # type: ignore[return-value]  # set whenever there is no error

    async def _wait_low_water(self) -> None:
        while self._sent_bytes - self.aio_published_bytes > HIGH_WATER_BYTES and not self._closed.is_set():
            if self._low_water is None:
                self._low_water = anyio.Event()
                self._outbound.put(partial(self.aio_tell_low_water, self._low_water))
            low_water = self._low_water
            await low_water.wait()
            if self._low_water is low_water:
                self._low_water = None

    async def _receive(self) -> None:
        """Hand over what comes from the other thread, until cancelled."""
        while True:
            await self._wakeup.wait()
            items = self._inbound.gathered()
            while items:
                for _ in range(min(len(items), ITEMS_BETWEEN_YIELDS)):
                    item = items.popleft()
                    try:
                        if isinstance(item, tuple):
                            subscription, message = item
                            self._taken_bytes += len(message.data)
                            subscription.delivered += 1
                            subscription.deliver(message)
                        else:
                            item()
                    except Exception:
                        logger.exception("what nats-py's thread sent could not be handled")
                if items:
                    await checkpoint()

    async def _wait_ready(self) -> None:
        await self._ready.done.wait()
        if self._ready.error is not None:
            raise self._ready.error

    async def _run_thread(self) -> None:
        try:
            await anyio.to_thread.run_sync(self.aio_thread, limiter=anyio.CapacityLimiter(1))
        finally:
            self._emit(abc.ConnectionEvent(abc.EventKind.CLOSED))
            for outcome in self._outcomes:
                if not outcome.done.is_set():
                    outcome.error = ConnectionClosedError()
                    outcome.finish()
            if self._low_water is not None:
                self._low_water.set()

    def _end(self) -> None:
        self._is_ending = True
        loop = self.aio_loop
        if loop is not None:
            with suppress(RuntimeError):  # it has ended by itself
                loop.call_soon_threadsafe(self.aio_end)

    # The asyncio thread

    def aio_thread(self) -> None:
        with asyncio.Runner() as runner:
            runner.run(self.aio_main())

    async def aio_tell_low_water(self, low_water: anyio.Event) -> None:
        self.aio_post(low_water.set)

    def aio_wake_here(self) -> None:
        # False when that loop has ended: then nobody is left to be told, and the client must go too.
        if not self._here.call_soon(self._wakeup.set):
            self.aio_end()

    def aio_end(self) -> None:
        if self.aio_main_task is not None and not self.aio_is_ending:
            self.aio_is_ending = True
            self.aio_main_task.cancel()

    def aio_post(self, function: Callable[[], None]) -> None:
        self._inbound.put(function)

    def aio_emit(self, event: abc.ConnectionEvent) -> None:
        if event.kind is abc.EventKind.CLOSED:
            # The thread has nothing left to do; its end tells this side.
            self.aio_end()
        self.aio_post(lambda: self._emit(event))

    async def aio_main(self) -> None:
        self.aio_main_task = asyncio.current_task()
        self.aio_loop = asyncio.get_running_loop()
        with suppress(asyncio.CancelledError):  # `aio_end` is how the caller's side ends this thread
            if self._is_ending:
                return
            try:
                await self.aio_client.connect(self._servers, **self._options)
            except BaseException as error:  # noqa: ASYNC103  # raised by `bridge`, on the other side
                self._ready.error = ConnectionClosedError() if isinstance(error, asyncio.CancelledError) else error
                self.aio_post(self._ready.finish)
                await _aio_close_quietly(self.aio_client)  # noqa: ASYNC102  # bounded by itself
                return  # noqa: ASYNC104
            await self.aio_serve()

    async def aio_serve(self) -> None:
        self.aio_side = ClientSide(self.aio_client, self.aio_emit)
        self.aio_side.attach()
        try:
            async with asyncio.TaskGroup() as self.aio_tasks:
                self.aio_tasks.create_task(self.aio_side.heal())
                self.aio_wakeup = wakeup = AsyncioWakeup()
                self.aio_post(self._ready.finish)
                while True:
                    await self.aio_work(self._outbound.gathered())
                    await wakeup.wait()
        finally:
            self.aio_side.detach()
            await self.aio_side.close()  # noqa: ASYNC102  # bounded by itself

    async def aio_work(self, commands: deque[_Outbound]) -> None:
        frames: list[bytes] = []
        while commands:
            command = commands.popleft()
            if isinstance(command, bytes):
                frames.append(command)
            else:
                await self.aio_publish(frames)
                await command()
        await self.aio_publish(frames)

    async def aio_publish(self, frames: list[bytes]) -> None:
        """Hand the frames to nats-py, at one go, and forget them here."""
        if not frames:
            return
        sent_bytes = self._sent_bytes
        payload_bytes = sent_bytes - self.aio_published_bytes
        # Away, each of them may be the one that is too many for the buffer.
        batches = [frames] if self.aio_client.is_connected else [[frame] for frame in frames]
        for batch in batches:
            try:
                await self.aio_side.publish(b"".join(batch), len(batch), payload_bytes)
            except Exception as error:
                self.aio_emit(abc.ConnectionEvent(abc.EventKind.ERROR, error))
            payload_bytes = 0
        self.aio_published_bytes = sent_bytes
        frames.clear()

    def aio_start_call(self, outcome: _Outcome[ResultT], function: Callable[[Client], Awaitable[ResultT]]) -> None:
        task = self.aio_tasks.create_task(self.aio_call(outcome, function))
        outcome.aio_task = task
        # A callback, for a task that is cancelled before its first step never runs a `finally`.
        task.add_done_callback(lambda _: self.aio_post(outcome.finish))

    async def aio_cancel_call(self, outcome: _Outcome[Any]) -> None:
        if outcome.aio_task is not None:
            outcome.aio_task.cancel()

    async def aio_call(self, outcome: _Outcome[ResultT], function: Callable[[Client], Awaitable[ResultT]]) -> None:
        try:
            outcome.value = await function(self.aio_client)
        except asyncio.CancelledError as error:  # noqa: ASYNC103
            # asyncio's own cancellation must not reach a task of another event loop.
            if self.aio_is_ending:
                outcome.error = ConnectionClosedError("the bridge closed while the call was running")
            else:
                outcome.error = RuntimeError("the call was cancelled in nats-py's event loop")
                outcome.error.__cause__ = error
        except BaseException as error:  # raised by the caller, on the other side
            outcome.error = error


async def _aio_close_quietly(client: Client) -> None:
    with suppress(Exception):
        async with asyncio.timeout(CLOSE_SECONDS):
            await client.close()
