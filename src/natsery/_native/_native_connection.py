"""The native connection, which users and services hold while sessions with servers begin and end."""

from __future__ import annotations

import logging
from contextlib import suppress
from time import perf_counter
from typing import final

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from .._backends import new_handover
from .._connection_base import ConnectionBase
from .._errors import ConnectionClosedError, OutboundBufferError
from .._events import ConnectionEvent, EventKind
from .._fast_path import Interest, settle
from .._headers import Headers, HeadersInput
from .._nuid import new_nuid
from .._protocol import _commands
from .._protocol._addresses import Address
from .._protocol._commands import check_line
from .._protocol._server_info import ServerInfo
from .._subjects import LINE_OVERHEAD
from .._wakeup import Wakeups
from ._authentication import check_files
from ._connection_statistics import ConnectionStatistics, Counters
from ._connector import Backoff, connect_elsewhere, connect_first, reconnect
from ._handshake import Link
from ._options import Options
from ._server_pool import ServerPool
from ._session import Session
from ._subscriptions import NativeSubscription, Subscriptions
from ._unconfirmed import Fence
from ._write_buffer import WriteBuffer

logger = logging.getLogger("natsery")

CLOSE_SECONDS = 2.0
"""Seconds that closing waits for the server to receive what was sent."""

MOVE_SECONDS = 2.0
"""Seconds that a server in lame-duck mode has to deliver what it still holds for this connection."""


@final
class NativeConnection(ConnectionBase):
    """A connection to NATS on anyio, created by `natsery.connect`."""

    def __init__(self, options: Options) -> None:
        super().__init__(f"{options.inbox_prefix}.{new_nuid()}")
        self._options = options
        self._pool = ServerPool(options.addresses, shuffle=options.shuffle)
        self._info = ServerInfo()
        self._max_payload = 0
        self._max_subjects = options.max_control_line - LINE_OVERHEAD
        self._session: Session | None = None
        self._scope = anyio.CancelScope()
        self._is_open = False
        # Kept from one session to the next
        self._counters = Counters()
        self._subscriptions = Subscriptions(self._home, self._unsubscribe_nowait)
        self._handover = new_handover()
        self._fences: dict[Fence, None] = {}  # in order
        self._fill(WriteBuffer(self._counters, self._held))
        self._line = anyio.Lock()
        """Held by the sender that waits for room; the others wait for it."""
        self._leaving: WriteBuffer | None = None
        """The buffer of a session that is leaving its server, while ``_write_buffer`` collects for the next one."""

    # Properties

    @property
    def max_payload(self) -> int:
        """See `abc.Connection`."""
        return self._max_payload

    @property
    def is_connected(self) -> bool:
        """See `abc.Connection`."""
        return self._session is not None

    @property
    def server_info(self) -> ServerInfo:
        """What the server says about itself; while it is away, what the last one said."""
        return self._info

    @property
    def connected_url(self) -> str:
        """The server that it is connected to, as a URL without secrets; ``""`` while it is away."""
        return "" if self._session is None else str(self._session.link.address)

    @property
    def servers(self) -> tuple[str, ...]:
        """All known servers, given and discovered, as URLs without secrets."""
        return tuple(map(str, self._pool.addresses))

    @property
    def pending_bytes(self) -> int:
        """Bytes that wait to be sent, without those that are already being passed to the operating system."""
        return self._write_buffer.size

    def statistics(self) -> ConnectionStatistics:
        """Return a frozen copy of what this connection has counted."""
        return self._counters.snapshot(self._waiting_frames)

    @property
    def _waiting_frames(self) -> int:
        return self._write_buffer.count + (0 if self._leaving is None else self._leaving.count)

    # Sending

    async def _send(
        self, subject: str, data: bytes = b"", *, reply: str = "", headers: HeadersInput | None = None
    ) -> None:
        if self._is_closed:
            self._raise_if_closed()
        frame = _commands.publish(
            subject, data, reply, headers, self._max_payload, self._max_subjects, takes_headers=self._info.headers
        )
        write_buffer = self._write_buffer
        if write_buffer.size > write_buffer.limit:
            await self._send_into_full(write_buffer, frame)
            return
        write_buffer.add(frame)

    def _refuse_nowait(self, reply: str, headers: Headers) -> bool:
        write_buffer = self._write_buffer
        if write_buffer.size > write_buffer.limit or not self._info.headers:
            return False
        frame = _commands.publish(reply, b"", "", headers, self._max_payload, self._max_subjects)
        write_buffer.add(frame)
        return True

    def _has_room(self) -> bool:
        write_buffer = self._write_buffer
        # While the server is away, `_send` refuses what is too much.
        return write_buffer.size <= write_buffer.limit or self._session is None

    async def _wait_for_room(self) -> None:
        if self._has_room():
            return
        # One after another: to wake all of them whenever there is room for a few would cost the square of their number.
        async with self._line:
            while not self._has_room():
                await self._write_buffer.wait_low_water()  # the next server has another write buffer

    async def _send_into_full(self, write_buffer: WriteBuffer, frame: bytes) -> None:
        """Add a message while the server is away or slower than the senders."""
        if self._session is None and write_buffer.size + len(frame) > self._options.max_pending_bytes:
            raise OutboundBufferError
        write_buffer.add(frame)
        await write_buffer.wait_low_water()

    def _fill(self, write_buffer: WriteBuffer) -> None:
        """Add what is sent to this write buffer from now on."""
        write_buffer.max_payload = self._max_payload
        self._write_buffer = write_buffer
        self._answer_nowait = write_buffer.answer  # type: ignore[method-assign]
        self._push_answers = write_buffer.push_early  # type: ignore[method-assign]
        self._publish_nowait = write_buffer.publish  # type: ignore[method-assign]

    # Subscriptions

    async def _subscribe(self, interest: Interest) -> NativeSubscription:
        self._raise_if_closed()
        check_line(interest.subject, interest.queue_group, self._max_subjects)
        subscription = self._subscriptions.add(interest)
        if self._session is not None:
            self._session.subscribe(subscription)
        return subscription

    def _wakeups(self) -> Wakeups:
        return self._handover

    @property
    def _takes_headers(self) -> bool:
        return self._info.headers

    @property
    def _may_deliver(self) -> bool:
        return self._session is not None or self._leaving is not None

    def _unsubscribe_nowait(self, subscription: NativeSubscription) -> None:
        if self._session is not None:
            self._session.unsubscribe(subscription)

    # Round trips

    async def flush(self) -> None:
        """See `abc.Connection`."""
        self._home.check()
        await checkpoint()
        await self._wait_for_room()
        self._raise_if_closed()
        fence = Fence(self._counters.sent_messages + self._waiting_frames)
        if self._session is None:
            self._fences[fence] = None
        else:
            self._session.ping(fence)
        try:
            await fence.wait()
        finally:
            self._fences.pop(fence, None)
        if not fence.has_passed:
            self._raise_if_closed()
            assert fence.loss is not None
            raise fence.loss

    async def rtt(self) -> float:
        """Return the round-trip time in seconds: how long the server takes to answer a PING sent after everything else.

        Raises:
            ConnectionClosedError: as for ``flush``.

        **Cancellation:** as for ``flush``. A checkpoint.
        """
        # Not the event loop's clock, which uvloop updates only once per iteration.
        begun = perf_counter()
        await self.flush()
        return perf_counter() - begun

    # Closing

    async def drain(self) -> None:
        """Unsubscribe everything without losing messages that the server has already sent, then close.

        Messages are delivered until the server has answered a PING that follows the UNSUBs.

        **Cancellation:** the connection is closed at once. A checkpoint.
        """
        self._home.check()
        try:
            for subscription in self._subscriptions.live():
                await subscription.unsubscribe()
            if not self._is_closed:
                await settle(self)
        finally:
            await self.aclose()  # noqa: ASYNC102  # bounded by itself

    async def aclose(self) -> None:
        """See `abc.Connection`."""
        self._home.check()
        await self._finish()
        await checkpoint()

    async def _finish(self) -> None:
        """Close within a few seconds, even if the task is cancelled. Not a checkpoint."""
        # Protects what was sent until the server has received it.
        with anyio.move_on_after(CLOSE_SECONDS, shield=True), suppress(ConnectionClosedError):
            if self._may_deliver or self._write_buffer.count:
                await settle(self)
        self._scope.cancel("the connection is closed")
        # Protects the network connection from being left open; its tasks are cancelled, and it closes without waiting.
        with anyio.move_on_after(CLOSE_SECONDS, shield=True):
            if self._is_open:
                await self.wait_closed()
        self._close()

    def _close(self, reason: Exception | None = None) -> None:
        if self._is_closed:
            return
        if self._session is not None:
            self._detach(self._session)
        self._subscriptions.clear()
        self._emit(ConnectionEvent(EventKind.CLOSED, reason))
        for fence in self._fences:
            fence.done.set()

    # Sessions

    async def _open(self, tasks: TaskGroup) -> None:
        """Connect to a first server, then keep a session running in the task group; raises what `connect_first` raises."""
        await check_files(self._options)
        session = self._attach(await connect_first(self._pool, self._options))
        self._is_open = True
        tasks.start_soon(self._run, session, name="natsery connection")

    async def _run(self, session: Session) -> None:
        """Run this session and those that follow it, until the connection is closed or no server can be reached."""
        reason: Exception | None = None
        try:
            with self._scope:
                reason = await self._run_sessions(session)
        finally:
            self._close(reason)

    async def _run_sessions(self, session: Session) -> Exception | None:
        backoff = Backoff(self._options)
        while True:
            begun = anyio.current_time()
            try:
                lost, successor = await self._run_session(session)
            finally:
                self._detach(session)
            self._pool.note_loss(session.link.target)
            if anyio.current_time() - begun > self._options.max_reconnect_wait:
                backoff.reset()  # not for a server that accepts connections only to close them at once
            if successor is None:
                logger.warning("disconnected from NATS at %s: %s", session.link.target, lost)
                self._emit(ConnectionEvent(EventKind.DISCONNECTED, lost))
                if not self._options.reconnect:
                    return lost
                try:
                    successor = await reconnect(self._pool, self._options, backoff, self._report)
                except Exception as error:  # the credentials may come from functions, which can raise anything
                    return error
            self._counters.reconnects += 1
            session = self._attach(successor)
            logger.info("reconnected to NATS at %s", successor.target)
            self._emit(ConnectionEvent(EventKind.RECONNECTED))

    async def _run_session(self, session: Session) -> tuple[Exception | None, Link | None]:
        """Run a session to its end; return why it broke, and the link that replaces it if it has moved to another server."""
        lost: Exception | None = None
        successor: Link | None = None

        async def move() -> None:
            nonlocal successor
            await session.is_lame_duck.wait()
            self._emit(ConnectionEvent(EventKind.LAME_DUCK))
            successor = await connect_elsewhere(self._pool, self._options, session.link.target)
            if successor is not None:
                await self._leave(session)

        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(move, name="natsery lame-duck move")
                lost = await session.run()
                tasks.cancel_scope.cancel("the network connection has ended")
        except BaseException:
            if successor is not None:
                await successor.close()  # noqa: ASYNC102  # closes without waiting
            raise
        return lost, successor

    def _attach(self, link: Link) -> Session:
        """Send over this link from now on."""
        self._session = session = Session(
            link,
            self._write_buffer,
            self._subscriptions,
            self._counters,
            self._options,
            self._handover,
            on_info=lambda info: self._learn(info, link.address),
            on_error=self._report,
        )
        fences, self._fences = self._fences, {}
        for fence in fences:
            session.ping(fence)
        return session

    async def _leave(self, session: Session) -> None:
        """Take the messages that a server has still to deliver, then end its session; new messages wait for the next one."""
        fence = session.leave()
        self._session = None
        self._leaving = session.write_buffer
        self._fill(WriteBuffer(self._counters, self._held))
        logger.info("leaving NATS at %s, which is in lame-duck mode", session.link.target)
        self._emit(ConnectionEvent(EventKind.DISCONNECTED))
        with anyio.move_on_after(MOVE_SECONDS):
            await fence.wait()
        session.end()

    def _detach(self, session: Session) -> None:
        """Keep for the next session what this one has not sent, and the fences that it has not passed."""
        self._session = self._leaving = None
        if self._write_buffer is session.write_buffer:
            self._fill(WriteBuffer(self._counters, self._held))
        messages, fences = session.retire(self._fences)
        self._write_buffer.add_first(messages)
        self._fences = dict.fromkeys(fences)

    def _learn(self, info: ServerInfo, address: Address) -> None:
        self._info = info
        self._max_payload = self._write_buffer.max_payload = info.max_payload
        if not self._options.ignore_discovered_servers:
            self._pool.learn(info.connect_urls, address)
