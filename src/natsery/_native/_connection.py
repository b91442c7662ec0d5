"""The native connection: what users and services hold while network connections come and go beneath it."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter
from typing import final

import anyio
from anyio.lowlevel import checkpoint

from .. import abc
from .._adr32 import check_queue_group, check_subject, new_id
from .._connection_base import ConnectionBase
from .._errors import (
    ConfigError,
    ConnectionClosedError,
    MalformedMessageError,
    MaxPayloadError,
    NatseryError,
    OutboundBufferError,
    ProtocolError,
    SubscriptionDeniedError,
)
from .._protocol import _commands
from .._protocol._complaints import complaint_error, denied_subscription, is_too_many_subscriptions
from .._protocol._headers import read_headers
from .._protocol._parser import ErrorEvent, Event, InfoEvent, MessageEvent, Signal
from .._protocol._server_info import ServerInfo, read_info
from ._authentication import check_files
from ._dialling import Pause, dial_again, dial_elsewhere, dial_first
from ._link import Link
from ._options import Options
from ._outbox import Outbox
from ._pool import Pool
from ._session import Fence, Ping, Session

logger = logging.getLogger("natsery")

CLOSE_SECONDS = 2.0
"""How long closing waits for the server to take what was sent."""

LONG_SUBJECT = 500
"""Characters of a subject from which on its length in bytes is looked at."""

_BLANK = re.compile(r"\s")

MOVE_SECONDS = 2.0
"""How long a server in lame-duck mode may take to send what it still has for this connection."""


@final
@dataclass(frozen=True, kw_only=True)
class ConnectionStatistics:
    """What a connection has counted since it was made.

    Attributes:
        in_messages: messages received, those of no subscription and malformed ones included.
        in_bytes: bytes received from the network, TLS apart.
        out_messages: messages taken for sending.
        out_bytes: bytes given to the network, TLS apart.
        malformed: messages dropped because they cannot be read.
        reconnects: times that another network connection took the place of one that had ended.
    """

    in_messages: int
    in_bytes: int
    out_messages: int
    out_bytes: int
    malformed: int
    reconnects: int


@final
class NativeSubscription(abc.Subscription):
    """Interest in a subject, made again on every network connection."""

    __slots__ = (
        "_connection",
        "deliver",
        "delivered",
        "dropped",
        "is_ending",
        "on_error",
        "queue_group",
        "sid",
        "subject",
    )

    def __init__(
        self,
        connection: NativeConnection,
        sid: bytes,
        subject: str,
        queue_group: str,
        deliver: abc.Deliver,
        on_error: Callable[[NatseryError], None],
    ) -> None:
        self.subject = subject
        self.queue_group = queue_group
        self.delivered = 0
        self.dropped = 0
        self.sid = sid
        self.deliver = deliver
        self.on_error = on_error
        self.is_ending = False
        self._connection = connection

    async def unsubscribe(self) -> None:
        """See `abc.Subscription`."""
        self._connection._unsubscribe(self)


@final
class NativeConnection(ConnectionBase):
    """A connection to NATS on anyio; made by `natsery.connect`."""

    def __init__(self, options: Options) -> None:
        super().__init__(f"{options.inbox_prefix}.{new_id()}")
        self._options = options
        self._pool = Pool(options.addresses, shuffle=options.shuffle)
        self._info = ServerInfo()
        self._outbox = Outbox()
        self._session: Session | None = None
        self._subscriptions: dict[bytes, NativeSubscription] = {}
        self._last_sid = 0
        self._ending: list[NativeSubscription] = []
        self._unconfirmed: list[NativeSubscription] = []
        self._fences: list[Fence] = []
        self._lame_duck = anyio.Event()
        self._scope = anyio.CancelScope()
        self._is_open = False
        self._reason: Exception | None = None
        self._max_payload = 0
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
        return self._outbox.size

    def statistics(self) -> ConnectionStatistics:
        """A frozen copy of what this connection has counted."""
        return ConnectionStatistics(
            in_messages=self._in_messages,
            in_bytes=self._in_bytes + (0 if self._session is None else self._session.received_bytes),
            out_messages=self._out_messages + self._outbox.messages,
            out_bytes=self._out_bytes + self._outbox.taken_bytes,
            malformed=self._malformed,
            reconnects=self._reconnects,
        )

    # Sending

    async def send(
        self, subject: str, data: bytes = b"", *, reply: str = "", headers: abc.HeadersInput | None = None
    ) -> None:
        """See `abc.Connection`."""
        if self._is_closed:
            self._raise_if_closed()
        if type(data) is not bytes:
            data = _as_bytes(data)
        # Printable and without blanks is the common case, and needs no closer look.
        if not subject.isprintable() or " " in subject or len(subject) > LONG_SUBJECT or reply or not subject:
            self._check_line(subject, reply)
        size = len(data)
        if headers is None:
            frame = b"PUB %b %b%d\r\n%b\r\n" % (subject.encode(), reply.encode() + b" " if reply else b"", size, data)
        else:
            block = abc.Headers(headers).encode()
            frame = _commands.publish_with_headers(subject.encode(), reply.encode(), block, data)
            size += len(block)
        if size > self._max_payload:
            raise MaxPayloadError(size, self._max_payload)
        outbox = self._outbox
        if outbox.size > outbox.limit:
            await self._send_into_full(outbox, frame)
            return
        outbox.frames.append(frame)
        outbox.size += len(frame)
        if outbox.is_waiting:
            outbox.wake()

    async def _send_into_full(self, outbox: Outbox, frame: bytes) -> None:
        """Send a frame while the server is away, or slower than those who send."""
        if self._session is None and outbox.size + len(frame) > self._options.max_pending_bytes:
            raise OutboundBufferError
        outbox.frames.append(frame)
        outbox.size += len(frame)
        await outbox.wait_low_water()

    def _check_line(self, subject: str, reply: str) -> None:
        # White space would be read as a separator, and what follows it as another field or another command.
        try:
            size = len(subject.encode()) + len(reply.encode())
        except UnicodeEncodeError:
            raise ConfigError("subject", f"{subject} {reply}".strip(), "must be writable as UTF-8") from None
        if not subject or _BLANK.search(subject):
            raise ConfigError("subject", subject, "must not be empty or contain white space")
        if _BLANK.search(reply):
            raise ConfigError("reply", reply, "must not contain white space")
        # The verb, its sizes and the blanks between take at most 40 bytes.
        longest = self._options.max_control_line - 40
        if size > longest:
            raise ConfigError("subject", subject, f"must, with the reply subject, not be longer than {longest} bytes")

    # Subscriptions

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
        self._check_line(subject, queue_group)
        self._raise_if_closed()
        self._last_sid += 1
        sid = b"%d" % self._last_sid
        subscription = NativeSubscription(self, sid, subject, queue_group, deliver, on_error or self._report)
        self._subscriptions[sid] = subscription
        if self._session is not None:
            self._unconfirmed.append(subscription)
            self._outbox.put(_commands.subscribe(subject, queue_group, sid))
        return subscription

    def _unsubscribe(self, subscription: NativeSubscription) -> None:
        if subscription.is_ending or self._is_closed:
            return
        subscription.is_ending = True
        if self._session is not None:
            self._ending.append(subscription)
            self._outbox.put(_commands.unsubscribe(subscription.sid))

    def _forget(self, subscriptions: list[NativeSubscription]) -> None:
        for subscription in subscriptions:
            self._subscriptions.pop(subscription.sid, None)

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
        ending, self._ending = self._ending, []
        session.ping(Ping(fence, ending, self._last_sid))

    # Ending

    async def drain(self) -> None:
        """End every subscription without losing what the server has sent already, then close.

        Deliveries go on until the server has answered a PING that follows the UNSUBs.

        **Cancellation:** the connection closes at once. A checkpoint.
        """
        try:
            for subscription in list(self._subscriptions.values()):
                self._unsubscribe(subscription)
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
            if self._session is not None or self._outbox.frames:
                await self.flush()
        self._scope.cancel("the connection is closed")
        # Protects the network connection from being left open; it is cancelled and closes without waiting.
        with anyio.move_on_after(CLOSE_SECONDS, shield=True):
            if self._is_open:
                await self.wait_closed()
        self._close()

    def _close(self) -> None:
        if self._is_closed:
            return
        self._replace_outbox(self._outbox.retire())
        fences = self._fences
        if self._session is not None:
            fences += self._session.open_fences()
            self._session = None
        self._subscriptions.clear()
        self._emit(abc.ConnectionEvent(abc.EventKind.CLOSED, self._reason))
        for fence in fences:
            fence.done.set()

    def _raise_if_closed(self) -> None:
        if self._is_closed:
            raise ConnectionClosedError.because(self._reason)

    # Network connections

    async def _open(self) -> Session:
        """Find a first server; raises what `dial_first` does. ``_keep_up`` must follow."""
        await check_files(self._options)
        session = self._attach(await dial_first(self._pool, self._options))
        self._is_open = True
        return session

    async def _keep_up(self, session: Session) -> None:
        """Keep a network connection up, beginning with this one, until closed or out of servers."""
        try:
            with self._scope:
                self._reason = await self._run(session)
        finally:
            self._close()

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
                    successor = await dial_again(self._pool, self._options, session.link.address, pause)
                except Exception as error:  # whatever it is, it is why there is no connection
                    return error
            else:
                self._fences += session.open_fences()
            self._reconnects += 1
            session = self._attach(successor)
            logger.info("reconnected to NATS at %s", successor.address)
            self._emit(abc.ConnectionEvent(abc.EventKind.RECONNECTED))

    async def _work(self, session: Session) -> tuple[Exception | None, Link | None]:
        """Run a session to its end: why it broke, and the link that takes its place if it moved."""
        lost: Exception | None = None
        successor: Link | None = None

        async def move() -> None:
            nonlocal successor
            await self._lame_duck.wait()
            self._emit(abc.ConnectionEvent(abc.EventKind.LAME_DUCK))
            successor = await dial_elsewhere(self._pool, self._options, session.link.address)
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
        self._forget([each for each in self._subscriptions.values() if each.is_ending])
        self._ending = []
        self._unconfirmed = list(self._subscriptions.values())
        outbox = self._outbox
        outbox.open([_commands.subscribe(each.subject, each.queue_group, each.sid) for each in self._unconfirmed])
        session = self._session = Session(link, outbox, self._options, self._dispatch, self._ping)
        fences, self._fences = self._fences, []
        for fence in fences:
            self._ping(session, fence)
        return session

    def _replace_outbox(self, left: list[bytes]) -> None:
        """Collect what is sent from now on, behind what is left, for the next link."""
        old = self._outbox
        # What is left is counted by the new one.
        self._out_messages += old.messages - len(left)
        self._out_bytes += old.taken_bytes
        self._outbox = Outbox(left)

    def _leave_broken(self, session: Session, lost: Exception | None) -> None:
        """Keep what has not been sent for the next link."""
        self._session = None
        self._fences += session.open_fences()
        self._replace_outbox(session.outbox.retire())
        logger.warning("disconnected from NATS at %s: %s", session.link.address, lost)
        self._emit(abc.ConnectionEvent(abc.EventKind.DISCONNECTED, lost))

    async def _leave_lame_duck(self, session: Session) -> None:
        """Take nothing more from a server but what it has sent, and leave it; what is new waits for the next link."""
        for subscription in self._subscriptions.values():
            if not subscription.is_ending:
                session.outbox.put(_commands.unsubscribe(subscription.sid))
        fence = Fence()
        self._ping(session, fence)
        self._session = None
        self._replace_outbox([])
        logger.info("leaving NATS at %s, which is in lame-duck mode", session.link.address)
        self._emit(abc.ConnectionEvent(abc.EventKind.DISCONNECTED))
        with anyio.move_on_after(MOVE_SECONDS):
            await fence.done.wait()
        session.end()

    # What the server says

    def _dispatch(self, session: Session, events: list[Event]) -> None:
        """Take what a session has received, in the order of the wire."""
        subscriptions = self._subscriptions
        count = 0
        for event in events:
            if type(event) is not tuple:
                self._handle(session, event)
                continue
            sid, subject, reply, header_block, data = event
            count += 1
            subscription = subscriptions.get(sid)
            if subscription is None:
                continue
            try:
                if header_block:
                    headers, status, _ = read_headers(header_block)
                    message = abc.Message(subject.decode(), data, reply.decode(), headers, status)
                else:
                    message = abc.Message(subject.decode(), data, reply.decode())
            except (UnicodeDecodeError, MalformedMessageError) as error:
                self._drop(event, error)
                continue
            subscription.delivered += 1
            try:
                subscription.deliver(message)
            except Exception:
                logger.exception("delivering a message on %r failed", subscription.subject)
        self._in_messages += count

    def _drop(self, event: MessageEvent, error: Exception) -> None:
        self._malformed += 1
        subject = event[1].decode(errors="replace")
        reason = error.reason if isinstance(error, MalformedMessageError) else "its subject or reply is not UTF-8"
        self._emit(abc.ConnectionEvent(abc.EventKind.ERROR, MalformedMessageError(reason, subject)))

    def _handle(self, session: Session, event: Event) -> None:
        if event is Signal.PING:
            session.outbox.put(_commands.PONG)
        elif event is Signal.PONG:
            ping = session.take_pong()
            if ping is not None:
                self._forget(ping.ending)
                self._unconfirmed = [each for each in self._unconfirmed if int(each.sid) > ping.last_sid]
        elif isinstance(event, InfoEvent):
            self._take_info(read_info(event.text), session.link)
        elif isinstance(event, ErrorEvent):
            self._take_complaint(session, event.text)
        elif isinstance(event, ProtocolError):
            raise event

    def _take_info(self, info: ServerInfo, link: Link) -> None:
        self._info = info
        self._max_payload = info.max_payload
        self._pool.learn(info.connect_urls, link.address)
        if info.lame_duck:
            self._lame_duck.set()

    def _take_complaint(self, session: Session, text: str) -> None:
        denied = denied_subscription(text)
        if denied is not None:
            for subscription in list(self._subscriptions.values()):
                if denied.sid:
                    is_meant = subscription.sid == denied.sid
                else:
                    is_meant = (subscription.subject, subscription.queue_group) == (denied.subject, denied.queue_group)
                if is_meant:
                    self._deny(subscription)
        elif is_too_many_subscriptions(text) and self._unconfirmed:
            # Once for each refused SUB: while the limit holds, the newest are those that are refused.
            self._deny(self._unconfirmed.pop())
        else:
            session.complaint = complaint_error(text)
            self._emit(abc.ConnectionEvent(abc.EventKind.ERROR, session.complaint))

    def _deny(self, subscription: NativeSubscription) -> None:
        error = SubscriptionDeniedError(subscription.subject, subscription.queue_group)
        try:
            subscription.on_error(error)
        except Exception:
            logger.exception("hearing of a denied subscription to %r failed", subscription.subject)


def _as_bytes(data: object) -> bytes:
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    hint = "; write text.encode()" if isinstance(data, str) else ""
    raise ConfigError("data", type(data).__name__, f"must be bytes{hint}")
