"""`bridge`: nats-py in a worker thread as a connection, as the caller's event loop (trio or any other) sees it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, final

import anyio
import anyio.to_thread
from anyio import get_cancelled_exc_class
from anyio.lowlevel import checkpoint

from .._backends import caller_into_this_loop
from .._condition_event import ConditionEvent
from .._connection_base import ConnectionBase, SubscriptionBase
from .._errors import ConnectionClosedError, NatseryError, OutboundBufferError
from .._events import ConnectionEvent, EventKind
from .._fast_path import Interest
from .._headers import Headers, HeadersInput
from .._home import Home
from .._interrupts import protect_from_interrupt, start_task
from .._nuid import new_nuid
from .._protocol import _commands
from .._tasks import background_tasks, block_of_one_task
from .._wakeup import new_wakeup
from ._bounds import ACLOSE_SECONDS, CALL_CANCEL_SECONDS
from ._remote_call import RemoteCall
from ._thread_queue import MESSAGE_BYTES, ThreadQueue

if TYPE_CHECKING:
    from nats.aio.client import Client

    from ._worker_thread import WorkerThread

logger = logging.getLogger("natsery")

ResultT = TypeVar("ResultT")
ArgsT = TypeVarTuple("ArgsT")

ITEMS_BETWEEN_YIELDS = 256
"""Items that are handed over here before other tasks get their turn."""

HIGH_WATER_BYTES = 8 * 1024 * 1024
"""Bytes of messages on their way to nats-py, headers and subjects counted, over which senders wait."""


async def _close(connection: BridgedConnection) -> None:
    await connection.aclose()


@block_of_one_task("natsery.bridge", _close)
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
        BackendMismatchError: natsery does not support the installed version of nats-py.
        nats.errors.Error, OSError: what nats-py raises when it cannot connect.

    Leaving the block closes the connection and ends the thread, within a few seconds whatever the server does.

    Dead links and complaints of the server are nats-py's matter, as ``adapt`` says: give a ``ping_interval``.

    ``drain`` of the client, through ``call``, ends the services on it first, as ``Service.stop`` does; see ``adapt``.

    **Cancellation:** the thread has ended before it goes on.
    """
    urls = servers if isinstance(servers, str) else list(servers)
    protect_from_interrupt(BridgedConnection._receive, BridgedConnection._send_batches, BridgedConnection._run_thread)
    async with background_tasks() as tasks:
        connection = BridgedConnection(options.get("inbox_prefix", "_INBOX"))
        start_task(tasks, connection._receive, name="natsery bridge receiver")
        start_task(tasks, connection._send_batches, name="natsery bridge sender")
        start_task(tasks, connection._run_thread, name="natsery bridge thread")
        try:
            await connection._connect(urls, options)
            yield connection
        finally:
            connection._end()


@final
class BridgedSubscription(SubscriptionBase):
    """A subscription of a client in nats-py's thread."""

    def __init__(self, thread: WorkerThread, interest: Interest, home: Home) -> None:
        from ._worker_thread import AioSubscription

        super().__init__(interest, home)
        self._thread = thread
        self._far = AioSubscription(thread, self)
        thread.outbound.put(self._far.aio_subscribe)

    async def _unsubscribe(self) -> None:
        self._thread.outbound.put(self._far.aio_unsubscribe)

    def take_error(self, error: NatseryError) -> None:
        """Tell of what went wrong in nats-py's thread."""
        self._fail(error)

    def take_dropped(self) -> None:
        """Tell of messages that were dropped in nats-py's thread."""
        self._far.has_told = False  # before the look: what is dropped after it is told again
        count = self._far.dropped - self.dropped
        if count > 0:
            self._lose(count)


@final
class BridgedConnection(ConnectionBase):
    """A nats-py client in an asyncio loop in a worker thread; made by ``bridge``."""

    def __init__(self, inbox_prefix: str | bytes) -> None:
        from ._worker_thread import WorkerThread

        prefix = inbox_prefix.decode() if isinstance(inbox_prefix, bytes) else inbox_prefix
        super().__init__(f"{prefix}.{new_nuid()}")
        self._received = new_wakeup()
        self._sent = new_wakeup()
        self._low_water = ConditionEvent(lambda: self._is_closed or not self._is_full or not self._client.is_connected)
        self.add_listener(lambda _: self._low_water.check())
        self._line = anyio.Lock()
        """Held by the sender that waits for room."""
        self._calls: set[RemoteCall[Any]] = set()
        self._thread = WorkerThread(
            ThreadQueue(self._sent.set),
            emit=self._emit,
            on_taken=self._on_taken,
            wake_caller=caller_into_this_loop(self._received.set),
        )
        self._client = self._thread.client
        self._outbound = self._thread.outbound

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
        frame = _commands.publish(
            subject, data, reply, headers, self._client._max_payload, takes_headers=self._takes_headers
        )
        if self._is_full:
            await self._make_room()
        self._put(frame, len(data))
        if self._is_full:
            self._outbound.is_awaited = True
            await self._low_water.wait()

    async def _make_room(self) -> None:
        """Raise if too much waits while the server is away, and wait while twice as much does: for senders that give up."""
        if not self._client.is_connected:
            raise OutboundBufferError
        outbound = self._outbound
        if outbound.put_bytes - outbound.taken_bytes <= 2 * HIGH_WATER_BYTES:
            return
        # One after another: to wake all of them whenever there is room for a few would cost the square of their number.
        async with self._line:
            while self.is_connected and outbound.put_bytes - outbound.taken_bytes > 2 * HIGH_WATER_BYTES:
                outbound.is_awaited = True
                await self._low_water.wait()
        self._raise_if_closed()
        if not self._client.is_connected:
            raise OutboundBufferError

    def _put(self, frame: bytes, payload_bytes: int) -> None:
        outbound = self._outbound
        outbound.put_bytes += len(frame) + MESSAGE_BYTES
        outbound.put_payload_bytes += payload_bytes
        outbound.put(frame)

    def _answer_nowait(self, reply: str, data: bytes) -> bool:
        outbound = self._outbound
        size = len(data)
        # `_is_full`, written out: a call less for every request.
        if (
            self._is_closed
            or size > self._client._max_payload
            or outbound.put_bytes - outbound.taken_bytes > HIGH_WATER_BYTES
        ):
            return False
        # `_put`, written out.
        frame = _commands.publish_reply(reply, data)
        outbound.put_bytes += len(frame) + MESSAGE_BYTES
        outbound.put_payload_bytes += size
        outbound.put(frame)
        return True

    def _push_answers(self) -> None:
        if self._outbound.is_woken:
            self._thread.wake()

    @property
    def _takes_headers(self) -> bool:
        return bool(self._client._server_info.get("headers"))

    def _refuse_nowait(self, reply: str, headers: Headers) -> bool:
        if self._is_closed or self._is_full or not self._takes_headers:
            return False
        self._put(_commands.publish(reply, b"", "", headers, self._client._max_payload), 0)
        return True

    @property
    def _is_full(self) -> bool:
        return self._outbound.put_bytes - self._outbound.taken_bytes > HIGH_WATER_BYTES

    def _on_taken(self) -> None:
        self._outbound.is_awaited = self._is_full
        self._low_water.check()

    async def _subscribe(self, interest: Interest) -> BridgedSubscription:
        self._raise_if_closed()
        return BridgedSubscription(self._thread, interest, self._home)

    def _hold_open(self, on_drain: Callable[[], None]) -> Callable[[], None]:
        from ._worker_thread import AioHold

        hold = AioHold(self._thread, on_drain)
        self._outbound.put(hold.aio_begin)
        return lambda: self._outbound.put(hold.aio_release)

    async def flush(self) -> None:
        """See `abc.Connection`."""
        await self._call_remotely(self._thread.aio_fence, must_end=False)

    async def call(self, fn: Callable[[Client, *ArgsT], Awaitable[ResultT]], *args: *ArgsT) -> ResultT:
        """Run ``fn(client, *args)`` in the client's own loop and return what it returns, or raise what it raises::

            ack = await nc.call(lambda client: client.jetstream().publish("orders", b"1"))

        It runs after everything that was sent before it.

        Raises:
            ConnectionClosedError: the bridge is closed or closes meanwhile.
            RuntimeError: ``fn`` was cancelled in the client's loop, not from here.

        **Cancellation:** ``fn`` is cancelled in the client's loop and has ended before this raises. A checkpoint.
        """

        async def aio_call() -> ResultT:
            return await fn(self._client, *args)

        return await self._call_remotely(aio_call)

    async def aclose(self) -> None:
        """See `abc.Connection`; the thread ends soon after."""
        self._home.check()
        self._end()
        # Protects nothing that could hang: the thread bounds its own end.
        with anyio.move_on_after(ACLOSE_SECONDS, shield=True):
            await self.wait_closed()
        await checkpoint()

    async def _connect(self, servers: str | list[str], options: dict[str, Any]) -> None:
        call = RemoteCall(partial(self._thread.aio_connect, servers, options))
        self._send_call(call)
        await call.done.wait()  # cancelled here, the end of the thread ends it
        call.result()

    async def _call_remotely(self, aio_function: Callable[[], Awaitable[ResultT]], *, must_end: bool = True) -> ResultT:
        self._home.check()
        await checkpoint()
        self._raise_if_closed()
        call = RemoteCall(aio_function)
        self._send_call(call)
        try:
            await call.done.wait()
        except get_cancelled_exc_class():
            self._thread.call_soon(partial(self._thread.aio_cancel_call, call))
            if not must_end:
                raise
            # Protects the call from being abandoned half way; bounded because its code may refuse to end.
            with anyio.move_on_after(CALL_CANCEL_SECONDS, shield=True):
                await call.done.wait()
            raise
        finally:
            self._calls.discard(call)
        return call.result()

    def _send_call(self, call: RemoteCall[Any]) -> None:
        self._calls.add(call)
        self._outbound.put(partial(self._thread.aio_start_call, call))

    async def _receive(self) -> None:
        """Hand over what comes from nats-py's thread, until cancelled."""
        inbound = self._thread.inbound
        while True:
            await self._received.wait()
            items = inbound.gathered()
            while items:
                for _ in range(min(len(items), ITEMS_BETWEEN_YIELDS)):
                    item = items.popleft()
                    try:
                        if isinstance(item, tuple):
                            subscription, message, size = item
                            inbound.taken_bytes += size
                            subscription.delivered += 1
                            subscription._deliver(message)
                        else:
                            item()
                    except Exception:
                        logger.exception("what nats-py's thread sent could not be handled")
                if items:
                    await checkpoint()

    async def _send_batches(self) -> None:
        """Wake nats-py's thread once for all that tasks have sent in one turn of this loop, until cancelled."""
        while True:
            await self._sent.wait()
            self._thread.wake()

    async def _run_thread(self) -> None:
        try:
            # Protects the thread from never being started: only there its loop is closed. It bounds its own end.
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._thread.aio_thread, limiter=anyio.CapacityLimiter(1))
            while self._thread.inbound.gathered():  # noqa: ASYNC110  # the other task of this loop hands them over
                await checkpoint()  # messages, and the ends of calls, that came before the end are handed over first
        finally:
            self._emit(ConnectionEvent(EventKind.CLOSED))
            for call in self._calls:
                if not call.done.is_set():
                    call.error = ConnectionClosedError()
                    call.done.set()
            self._low_water.check()

    def _end(self) -> None:
        self._thread.call_soon(self._thread.aio_end)
