"""`bridge`: nats-py in a worker thread as a connection, as the caller's event loop (trio or any other) sees it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from functools import partial
from typing import Any, TypeVar, TypeVarTuple, final

import anyio
import anyio.to_thread
from anyio import get_cancelled_exc_class
from anyio.lowlevel import checkpoint
from nats.aio.client import Client

from .._connection_base import ConnectionBase, SubscriptionBase
from .._errors import ConnectionClosedError, NatseryError
from .._events import ConnectionEvent, EventKind
from .._fast_path import Interest
from .._interrupts import protect_from_interrupt, start_task
from .._message import HeadersInput
from .._nuid import new_nuid
from .._protocol import _commands
from .._tasks import background_tasks
from ._outlet import Outlet
from ._safe_client import CLOSE_SECONDS
from ._thread_queue import ThreadQueue, Waker, liveness_of_this_loop
from ._worker_thread import AioSubscription, Inbound, Outcome, WorkerThread

logger = logging.getLogger("natsery")

ResultT = TypeVar("ResultT")
ArgsT = TypeVarTuple("ArgsT")

ITEMS_BETWEEN_YIELDS = 256
"""Items that are handed over here before other tasks get their turn."""

CALL_CANCEL_SECONDS = 5.0
"""How long a cancelled ``call`` is given to end over there."""


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
    protect_from_interrupt(BridgedConnection._receive, BridgedConnection._run_thread, Outlet.run)
    with closing(Waker()) as waker:
        connection = BridgedConnection(urls, options, waker)
        async with background_tasks() as tasks:
            start_task(tasks, connection._receive, name="natsery bridge intake")
            start_task(tasks, connection._outlet.run, name="natsery bridge outlet")
            start_task(tasks, connection._run_thread, name="natsery bridge thread")
            try:
                await connection._wait_ready()
                yield connection
            finally:
                connection._end()


@final
class BridgedSubscription(SubscriptionBase):
    """A subscription of a client in the other loop."""

    def __init__(
        self,
        side: WorkerThread,
        outlet: Outlet,
        interest: Interest,
    ) -> None:
        super().__init__(interest)
        self._outlet = outlet
        self._far = AioSubscription(side, self)
        outlet.put(self._far.aio_subscribe)

    async def _unsubscribe(self) -> None:
        self._outlet.put(self._far.aio_unsubscribe)

    def take_error(self, error: NatseryError) -> None:
        """Hear of what went wrong in the other thread."""
        self._fail(error)

    def take_dropped(self) -> None:
        """Hear of messages that were dropped in the other thread."""
        self._far.has_told = False  # before the look: what is dropped after it is told anew
        count = self._far.dropped - self.dropped
        if count > 0:
            self._lose(count)


@final
class BridgedConnection(ConnectionBase):
    """A nats-py client in an asyncio loop in a worker thread; made by ``bridge``."""

    def __init__(self, servers: str | list[str], options: dict[str, Any], waker: Waker) -> None:
        prefix = options.get("inbox_prefix", "_INBOX")
        super().__init__(f"{prefix.decode() if isinstance(prefix, bytes) else prefix}.{new_nuid()}")
        self._waker = waker
        self._ready: Outcome[None] = Outcome()
        self._outcomes: set[Outcome[Any]] = set()
        self._low_water: anyio.Event | None = None
        self._side = WorkerThread(
            servers,
            options,
            emit=self._emit,
            ready=self._ready,
            outbound=ThreadQueue(self._wake_there),
            wake_near=waker.wake,
            near_lives=liveness_of_this_loop(),
        )
        self._client = self._side.client
        self._inbound: ThreadQueue[Inbound] = self._side.inbound
        self._outlet = Outlet(self._client, self._side.outbound)

    @property
    def client(self) -> Client:
        """The nats-py client; use it through ``call`` only, for it lives in the other thread's loop."""
        return self._client

    @property
    def max_payload(self) -> int:
        """See `abc.Connection`."""
        return self._client.max_payload

    @property
    def is_connected(self) -> bool:
        """See `abc.Connection`."""
        return not self._closed.is_set() and self._client.is_connected

    async def _send(
        self, subject: str, data: bytes = b"", *, reply: str = "", headers: HeadersInput | None = None
    ) -> None:
        if self._is_closed:
            self._raise_if_closed()
        frame = _commands.publish(subject, data, reply, headers, self._client._max_payload)
        self._outlet.send(frame, len(data))
        if self._outlet.is_full:
            await self._wait_low_water()

    def _answer_nowait(self, reply: str, data: bytes) -> bool:
        size = len(data)
        if self._is_closed or size > self._client._max_payload or self._outlet.is_full:
            return False
        self._outlet.answer(_commands.publish_reply(reply, data), size)
        return True

    async def _subscribe(self, interest: Interest) -> BridgedSubscription:
        self._raise_if_closed()
        return BridgedSubscription(self._side, self._outlet, interest)

    async def flush(self) -> None:
        """See `abc.Connection`."""
        await self._run_over_there(self._side.aio_fence)

    async def call(self, fn: Callable[[Client, *ArgsT], Awaitable[ResultT]], *args: *ArgsT) -> ResultT:
        """Run ``fn(client, *args)`` in the client's own loop and return what it returns, or raise what it raises::

            ack = await nc.call(lambda client: client.jetstream().publish("orders", b"1"))

        It runs after everything that was sent before it.

        Raises:
            ConnectionClosedError: the bridge is closed or closes meanwhile.
            RuntimeError: ``fn`` was cancelled over there, by nobody here.

        **Cancellation:** ``fn`` is cancelled over there and has ended before this raises. A checkpoint.
        """

        async def aio_call() -> ResultT:
            return await fn(self._client, *args)

        return await self._run_over_there(aio_call)

    async def aclose(self) -> None:
        """See `abc.Connection`; the thread ends soon after."""
        self._end()
        # Protects nothing that could hang: the other side bounds its own closing.
        with anyio.move_on_after(2 * CLOSE_SECONDS, shield=True):
            await self.wait_closed()
        await checkpoint()

    async def _run_over_there(self, aio_function: Callable[[], Awaitable[ResultT]]) -> ResultT:
        await checkpoint()
        self._raise_if_closed()
        side = self._side
        outcome: Outcome[ResultT] = Outcome()

        async def aio_start() -> None:
            side.aio_start_call(outcome, aio_function)

        self._outcomes.add(outcome)
        self._outlet.put(aio_start)
        try:
            await outcome.done.wait()
        except get_cancelled_exc_class():
            self._outlet.put(partial(side.aio_cancel_call, outcome))
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
        while self._outlet.is_full and not self._is_closed:
            if self._low_water is None:
                self._low_water = anyio.Event()
                self._outlet.put(partial(self._side.aio_tell, self._low_water.set))
            low_water = self._low_water
            await low_water.wait()
            if self._low_water is low_water:
                self._low_water = None

    async def _receive(self) -> None:
        """Hand over what comes from the other thread, until cancelled."""
        inbound = self._inbound
        while True:
            await self._waker.wait()
            items = inbound.gathered()
            while items:
                count = min(len(items), ITEMS_BETWEEN_YIELDS)
                self._outlet.expect_answers(count)
                for _ in range(count):
                    item = items.popleft()
                    try:
                        if isinstance(item, tuple):
                            subscription, message = item
                            inbound.taken_bytes += len(message.data)
                            subscription.delivered += 1
                            subscription._deliver(message)
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
            await anyio.to_thread.run_sync(self._side.aio_thread, limiter=anyio.CapacityLimiter(1))
        finally:
            self._emit(ConnectionEvent(EventKind.CLOSED))
            for outcome in self._outcomes:
                if not outcome.done.is_set():
                    outcome.error = ConnectionClosedError()
                    outcome.finish()
            if self._low_water is not None:
                self._low_water.set()

    def _wake_there(self) -> None:
        loop, wakeup = self._side.loop, self._side.wakeup
        if loop is not None and wakeup is not None:  # else it has not begun to look
            with suppress(RuntimeError):  # it has ended, and `_run_thread` is about to tell
                loop.call_soon_threadsafe(wakeup.set)

    def _end(self) -> None:
        self._outlet.push()
        side = self._side
        side.must_end = True
        if side.loop is not None:
            with suppress(RuntimeError):  # it has ended by itself
                side.loop.call_soon_threadsafe(side.aio_end)
