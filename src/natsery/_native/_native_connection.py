"""The native connection: what users and services hold while network connections come and go beneath it."""

from __future__ import annotations

import logging
from contextlib import suppress
from time import perf_counter
from typing import final

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from .._backends._plain_stream import PlainStream
from .._connection_base import ConnectionBase
from .._errors import (
    ConnectionClosedError,
    MalformedMessageError,
    OutboundBufferError,
    ProtocolError,
)
from .._events import ConnectionEvent, EventKind
from .._fast_path import Interest
from .._message import HeadersInput
from .._nuid import new_nuid
from .._protocol import _commands
from .._protocol._commands import SIZE_FIELDS, SMALL, check_line
from .._protocol._messages import read_message
from .._protocol._parser import ErrorEvent, Event, InfoEvent, MessageEvent, Signal
from .._protocol._server_errors import server_error
from .._protocol._server_info import ServerInfo, read_info
from ._authentication import check_files
from ._connection_statistics import ConnectionStatistics
from ._connector import Pause, connect_elsewhere, connect_first, reconnect
from ._handshake import Link
from ._options import Options
from ._pool import Pool
from ._session import Fence, Ping, Session
from ._subscriptions import NativeSubscription, Subscriptions
from ._write_buffer import WriteBuffer

logger = logging.getLogger("natsery")

CLOSE_SECONDS = 2.0
"""How long closing waits for the server to take what was sent."""

LINE_OVERHEAD = 40
"""Bytes that a control line takes at most besides its subjects: the verb, sizes, blanks."""

MOVE_SECONDS = 2.0
"""How long a server in lame-duck mode may take to send what it still has for this connection."""


@final
class NativeConnection(ConnectionBase):
    """A connection to NATS on anyio; made by `natsery.connect`."""

    def __init__(self, options: Options) -> None:
        super().__init__(f"{options.inbox_prefix}.{new_nuid()}")
        self._options = options
        self._pool = Pool(options.addresses, shuffle=options.shuffle)
        self._info = ServerInfo()
        self._write_buffer = WriteBuffer()
        self._leaving: WriteBuffer | None = None
        """What is still being sent to a server that is being left."""
        self._session: Session | None = None
        self._subscriptions = Subscriptions()
        self._fences: list[Fence] = []
        self._lame_duck = anyio.Event()
        self._scope = anyio.CancelScope()
        self._is_open = False
        self._max_payload = 0
        self._max_subjects = options.max_control_line - LINE_OVERHEAD
        self._in_messages = 0
        self._in_bytes = 0
        self._out_messages = 0
        self._out_bytes = 0
        self._malformed = 0
        self._reconnects = 0

    # What it is

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
        """What the server, or the last one if it is away, says of itself."""
        return self._info

    @property
    def servers(self) -> tuple[str, ...]:
        """Every server that is known, given or discovered, as URLs without secrets."""
        return tuple(map(str, self._pool.addresses))

    @property
    def pending_bytes(self) -> int:
        """Bytes that wait to be sent, those apart that are on their way to the operating system."""
        return self._write_buffer.size

    def statistics(self) -> ConnectionStatistics:
        """A frozen copy of what this connection has counted."""
        return ConnectionStatistics(
            in_messages=self._in_messages,
            in_bytes=self._in_bytes + (0 if self._session is None else self._session.received_bytes),
            out_messages=self._out_messages + self._write_buffer.messages,
            out_bytes=self._out_bytes
            + self._write_buffer.taken_bytes
            + (self._leaving.taken_bytes if self._leaving else 0),
            malformed=self._malformed,
            reconnects=self._reconnects,
        )

    # Sending

    async def _send(
        self, subject: str, data: bytes = b"", *, reply: str = "", headers: HeadersInput | None = None
    ) -> None:
        if self._is_closed:
            self._raise_if_closed()
        frame = _commands.publish(subject, data, reply, headers, self._max_payload, self._max_subjects)
        write_buffer = self._write_buffer
        if write_buffer.size > write_buffer.limit:
            await self._send_into_full(write_buffer, frame)
            return
        write_buffer.frames.append(frame)
        write_buffer.size += len(frame)
        if write_buffer.is_waiting:
            write_buffer.wake()

    def _answer_nowait(self, reply: str, data: bytes) -> bool:
        write_buffer = self._write_buffer
        size = len(data)
        if write_buffer.size > write_buffer.limit or size > self._max_payload:
            return False
        # `answer`, written out: a call less for every request.
        size_field = SIZE_FIELDS[size] if size < SMALL else b" %d\r\n" % size
        frame = b"".join((b"PUB ", reply.encode(), size_field, data, b"\r\n"))
        write_buffer.frames.append(frame)
        write_buffer.size += len(frame)
        write_buffer.until_push = until_push = write_buffer.until_push - 1
        if not until_push:
            write_buffer.push()
        elif write_buffer.is_waiting:
            write_buffer.wake()
        return True

    async def _send_into_full(self, write_buffer: WriteBuffer, frame: bytes) -> None:
        """Send a frame while the server is away, or slower than those who send."""
        if self._session is None and write_buffer.size + len(frame) > self._options.max_pending_bytes:
            raise OutboundBufferError
        write_buffer.frames.append(frame)
        write_buffer.size += len(frame)
        await write_buffer.wait_low_water()

    # Subscriptions

    async def _subscribe(self, interest: Interest) -> NativeSubscription:
        self._raise_if_closed()
        check_line(interest.subject, interest.queue_group, self._max_subjects)
        subscription = self._subscriptions.add(interest, self._unsubscribe)
        if self._session is not None:
            self._subscriptions.begin(subscription)
            self._write_buffer.put(subscription.command)
        return subscription

    def _unsubscribe(self, subscription: NativeSubscription) -> None:
        if self._session is not None:
            self._subscriptions.end(subscription)
            self._write_buffer.put(_commands.unsubscribe(subscription.sid))

    # Waiting for the server

    async def flush(self) -> None:
        """See `abc.Connection`."""
        await checkpoint()
        self._raise_if_closed()
        fence = Fence()
        if self._session is None:
            self._fences.append(fence)
        else:
            self._ping(self._session, fence)
        await fence.done.wait()
        if not fence.has_passed:
            self._raise_if_closed()

    async def rtt(self) -> float:
        """The seconds that the server takes to answer a PING that follows everything sent before.

        Raises:
            ConnectionClosedError: as for ``flush``.

        **Cancellation:** as for ``flush``. A checkpoint.
        """
        # Not the event loop's clock, which uvloop reads once for each turn.
        begun = perf_counter()
        await self.flush()
        return perf_counter() - begun

    def _ping(self, session: Session, fence: Fence | None) -> None:
        """Have a session send a PING."""
        session.ping(Ping(fence, self._subscriptions.take_ending(), self._subscriptions.last_sid))

    # Ending

    async def drain(self) -> None:
        """End every subscription without losing what the server has sent already, then close.

        Deliveries go on until the server has answered a PING that follows the UNSUBs.

        **Cancellation:** the connection closes at once. A checkpoint.
        """
        try:
            for subscription in self._subscriptions.live():
                await subscription.unsubscribe()
            if not self._is_closed:
                await self.flush()
        finally:
            await self.aclose()  # noqa: ASYNC102  # bounded by itself

    async def aclose(self) -> None:
        """See `abc.Connection`."""
        await self._finish()
        await checkpoint()

    async def _finish(self) -> None:
        """Close within a few seconds, also when the task is cancelled. No checkpoint."""
        # Protects what was sent until the server has taken it.
        with anyio.move_on_after(CLOSE_SECONDS, shield=True), suppress(ConnectionClosedError):
            if self._session is not None or self._write_buffer.frames:
                await self.flush()
        self._scope.cancel("the connection is closed")
        # Protects the network connection from being left open; it is cancelled and closes without waiting.
        with anyio.move_on_after(CLOSE_SECONDS, shield=True):
            if self._is_open:
                await self.wait_closed()
        self._close()

    def _close(self, reason: Exception | None = None) -> None:
        if self._is_closed:
            return
        self._take_back()
        self._replace_write_buffer(self._write_buffer.retire())
        fences = self._fences
        if self._session is not None:
            fences += self._session.open_fences()
            self._session = None
        self._subscriptions = Subscriptions()
        self._emit(ConnectionEvent(EventKind.CLOSED, reason))
        for fence in fences:
            fence.done.set()

    # Network connections

    async def _open(self, tasks: TaskGroup) -> None:
        """Find a first server, and keep up a connection from then on, as one of the tasks; raises what `connect_first` does."""
        await check_files(self._options)
        session = self._attach(await connect_first(self._pool, self._options))
        self._is_open = True
        tasks.start_soon(self._keep_up, session, name="natsery connection")

    async def _keep_up(self, session: Session) -> None:
        """Keep a network connection up, beginning with this one, until closed or out of servers."""
        reason: Exception | None = None
        try:
            with self._scope:
                reason = await self._run(session)
        finally:
            self._close(reason)

    async def _run(self, session: Session) -> Exception | None:
        pause = Pause(self._options)
        while True:
            begun = anyio.current_time()
            lost, successor = await self._work(session)
            if anyio.current_time() - begun > self._options.max_reconnect_wait:
                pause.reset()  # a server that takes a connection only to end it must not be run against
            self._in_bytes += session.received_bytes
            if successor is None:
                self._leave_broken(session, lost)
                if not self._options.reconnect:
                    return lost
                try:
                    successor = await reconnect(self._pool, self._options, session.link.address, pause)
                except Exception as error:  # whatever it is, it is why there is no connection
                    return error
            else:
                self._fences += session.open_fences()
                self._take_back()
            self._reconnects += 1
            session = self._attach(successor)
            logger.info("reconnected to NATS at %s", successor.address)
            self._emit(ConnectionEvent(EventKind.RECONNECTED))

    async def _work(self, session: Session) -> tuple[Exception | None, Link | None]:
        """Run a session to its end: why it broke, and the link that takes its place if it moved."""
        lost: Exception | None = None
        successor: Link | None = None

        async def move() -> None:
            nonlocal successor
            await self._lame_duck.wait()
            self._emit(ConnectionEvent(EventKind.LAME_DUCK))
            successor = await connect_elsewhere(self._pool, self._options, session.link.address)
            if successor is not None:
                await self._leave_lame_duck(session)

        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(move, name="natsery lame-duck move")
                lost = await session.run()
                tasks.cancel_scope.cancel("the network connection has ended")
        except BaseException:
            if successor is not None:
                await anyio.aclose_forcefully(successor.stream)  # noqa: ASYNC102  # closes without waiting
            raise
        return lost, successor

    def _attach(self, link: Link) -> Session:
        """Send over this link from now on, the subscriptions first."""
        self._lame_duck = anyio.Event()
        self._take_info(link.info, link)
        write_buffer = self._write_buffer
        send_nowait = link.stream.send_nowait if isinstance(link.stream, PlainStream) else None
        write_buffer.open([subscription.command for subscription in self._subscriptions.begin_all()], send_nowait)
        session = self._session = Session(link, write_buffer, self._options, self._dispatch, self._ping)
        fences, self._fences = self._fences, []
        for fence in fences:
            self._ping(session, fence)
        return session

    def _replace_write_buffer(self, left: list[bytes]) -> None:
        """Collect what is sent from now on, behind what is left, for the next link."""
        old = self._write_buffer
        # What is left is counted by the new one, and not by this one any more.
        self._out_messages += old.messages
        self._out_bytes += old.taken_bytes
        self._write_buffer = WriteBuffer(left)

    def _leave_broken(self, session: Session, lost: Exception | None) -> None:
        """Keep what has not been sent for the next link."""
        self._session = None
        self._fences += session.open_fences()
        self._replace_write_buffer(session.write_buffer.retire())
        logger.warning("disconnected from NATS at %s: %s", session.link.address, lost)
        self._emit(ConnectionEvent(EventKind.DISCONNECTED, lost))

    async def _leave_lame_duck(self, session: Session) -> None:
        """Take nothing more from a server but what it has sent, and leave it; what is new waits for the next link."""
        for subscription in self._subscriptions.live():
            session.write_buffer.put(_commands.unsubscribe(subscription.sid))
        fence = Fence()
        self._ping(session, fence)
        self._session = None
        self._out_messages += session.write_buffer.messages
        self._leaving, self._write_buffer = session.write_buffer, WriteBuffer()
        logger.info("leaving NATS at %s, which is in lame-duck mode", session.link.address)
        self._emit(ConnectionEvent(EventKind.DISCONNECTED))
        with anyio.move_on_after(MOVE_SECONDS):
            await fence.done.wait()
        session.end()

    def _take_back(self) -> None:
        """Have the next server get what the one that has been left has not taken, before everything newer."""
        if self._leaving is None:
            return
        left = self._leaving.retire()
        self._out_messages -= len(left)
        self._out_bytes += self._leaving.taken_bytes
        self._leaving = None
        self._write_buffer.put_first(left)

    # What the server says

    def _dispatch(self, session: Session, events: list[Event]) -> None:
        """Take what a session has received, in the order of the wire."""
        subscriptions = self._subscriptions.by_sid
        count = 0
        for event in events:
            if type(event) is not tuple:
                self._handle(session, event)
                continue
            count += 1
            subscription = subscriptions.get(event[0])
            if subscription is None:
                continue
            _, subject, reply, header_block, data = event
            try:
                if header_block:
                    message = read_message(event, subscription._message_type)
                else:
                    # `read_message`, written out: a call less for nearly every message.
                    message = subscription._message_type(subject.decode(), data, reply.decode())
            except (MalformedMessageError, UnicodeDecodeError):
                self._drop(event)
                continue
            # `subscription._take`, written out: a call less for every message.
            subscription.delivered += 1
            try:
                subscription._deliver(message)
            except Exception:
                logger.exception("delivering a message on %r failed", subscription.subject)
        self._in_messages += count
        session.write_buffer.expect_answers(count)

    def _drop(self, event: MessageEvent) -> None:
        self._malformed += 1
        try:
            read_message(event)
        except MalformedMessageError as error:
            self._report(error)

    def _handle(self, session: Session, event: Event) -> None:
        if event is Signal.PING:
            session.write_buffer.put(_commands.PONG)
        elif event is Signal.PONG:
            ping = session.take_pong()
            if ping is not None:
                self._subscriptions.forget(ping.ending)
                self._subscriptions.confirm(ping.last_sid)
        elif isinstance(event, InfoEvent):
            self._take_info(read_info(event.text), session.link)
        elif isinstance(event, ErrorEvent):
            self._take_error(session, event.text)
        elif isinstance(event, ProtocolError):
            raise event

    def _take_info(self, info: ServerInfo, link: Link) -> None:
        self._info = info
        self._max_payload = info.max_payload
        self._pool.learn(info.connect_urls, link.address)
        if info.lame_duck:
            self._lame_duck.set()

    def _take_error(self, session: Session, text: str) -> None:
        if not self._subscriptions.take_error(text):
            session.complaint = server_error(text)
            self._report(session.complaint)
