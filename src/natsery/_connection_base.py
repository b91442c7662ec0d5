"""What natsery's connections have in common: listeners, the closed state, subscriptions, requests over one inbox."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Final, Never, final

import anyio
from anyio.lowlevel import checkpoint

from . import abc
from ._checks import check_argument
from ._core import HeldAnswers, SubscriptionFields
from ._errors import (
    ConnectionClosedError,
    NatseryError,
    NoRespondersError,
    PublishDeniedError,
    SlowConsumerError,
    SubscriptionDeniedError,
)
from ._events import ConnectionEvent, EventKind, Listener
from ._exports import show_methods_as_of
from ._fast_path import Interest, settle
from ._headers import Headers, HeadersInput
from ._home import Home
from ._message import Deliver, Message
from ._protocol._commands import as_bytes
from ._reply_tokens import ReplyTokens
from ._subjects import LINE_OVERHEAD, MAX_CONTROL_LINE, literal_subject_rule, queue_group_rule, subject_rule
from ._turns import Turns
from ._usage import DEADLINE, refuse_options
from ._wakeup import PlainWakeups, Wakeup, Wakeups, new_wakeup, wakeup_class

logger = logging.getLogger("natsery")

_NO_RESPONDERS = 503

_REQUEST_HINTS: Final = {"timeout": DEADLINE, "payload": "write data=...", "old_style": "leave it out"}


class SubscriptionBase(SubscriptionFields, abc.Subscription):
    """The parts of `abc.Subscription` that do not depend on how bytes travel."""

    __slots__ = ("_home", "_on_error", "dropped", "queue_group")

    def __init__(self, interest: Interest, home: Home) -> None:
        self._home = home
        self.subject = interest.subject
        self.queue_group = interest.queue_group
        self.delivered = 0
        self.dropped = 0
        self._deliver = interest.deliver
        self._on_error = interest.on_error
        self._message_type = interest.message_type

    async def unsubscribe(self) -> None:
        """See `abc.Subscription`."""
        self._home.check()
        await self._unsubscribe()
        await checkpoint()

    @abstractmethod
    async def _unsubscribe(self) -> None:
        """See `FastSubscription`."""

    def _take(self, message: Message) -> None:
        """Deliver a message; an exception of the receiver is logged."""
        self.delivered += 1
        try:
            self._deliver(message)
        except Exception:
            logger.exception("delivering a message on %r failed", self.subject)

    def _fail(self, error: NatseryError) -> None:
        """Report an error; an exception of the callback is logged."""
        try:
            self._on_error(error)
        except Exception:
            logger.exception("telling of %r failed", error)

    def _deny(self) -> None:
        """Report that the server refuses it."""
        self._fail(SubscriptionDeniedError(self.subject, self.queue_group))

    def _lose(self, count: int) -> None:
        """Report that messages were dropped on the way."""
        self.dropped += count
        self._fail(SlowConsumerError(self.subject, self.dropped))


@show_methods_as_of("Connection")
class ConnectionBase(abc.Connection):
    """The parts of `abc.Connection` that do not depend on how bytes travel.

    Args:
        inbox: how its reply subjects begin.
        reply_tokens: what distinguishes them; random unless given.
    """

    _max_subjects: int = MAX_CONTROL_LINE - LINE_OVERHEAD

    def __init__(self, inbox: str, reply_tokens: Iterator[str] | None = None) -> None:
        self._listeners: dict[object, Listener] = {}  # in order, by what takes each out again
        self._closed = anyio.Event()
        self._is_closed = False
        self._reason: Exception | None = None
        self._inbox = inbox
        self._reply_tokens = ReplyTokens() if reply_tokens is None else reply_tokens
        self._held = HeldAnswers()
        self._requests = _Requests(self, inbox, self._reply_tokens)
        self._home = Home()
        self._turns = Turns(self._home)

    @property
    def is_closed(self) -> bool:
        """See `abc.Connection`."""
        return self._is_closed

    async def wait_closed(self) -> None:
        """See `abc.Connection`."""
        self._home.check()
        await self._closed.wait()

    def add_listener(self, listener: Listener) -> Callable[[], None]:
        """See `abc.Connection`."""
        token = object()
        self._listeners[token] = listener

        def remove() -> None:
            self._listeners.pop(token, None)

        return remove

    async def publish(
        self, subject: str, data: bytes = b"", *, reply: str = "", headers: HeadersInput | None = None
    ) -> None:
        """See `abc.Connection`."""
        if type(data) is not bytes:
            data = as_bytes(data)
        turns = self._turns
        # `Turns.checkpoint`, written out: a call less for each message.
        if turns.is_due(len(data)):
            await checkpoint()
        else:
            await turns.checkpoint_if_cancelled()
        if not reply and headers is None and self._publish_nowait(subject, data):
            return
        check_argument("subject", subject, literal_subject_rule)
        if reply:
            check_argument("reply", reply, literal_subject_rule)
        if not self._has_room():
            await self._wait_for_room()
        await self._send(subject, data, reply=reply, headers=headers)

    async def add_subscription(
        self,
        subject: str,
        deliver: Deliver,
        *,
        queue_group: str = "",
        on_error: Callable[[NatseryError], None] | None = None,
    ) -> abc.Subscription:
        """See `abc.Connection`."""
        check_argument("subject", subject, subject_rule)
        if queue_group:
            check_argument("queue_group", queue_group, queue_group_rule)
        self._home.check()
        await checkpoint()
        if not self._has_room():
            await self._wait_for_room()
        return await self._subscribe(Interest(subject, queue_group, deliver, on_error or self._report))

    def _has_room(self) -> bool:
        """Whether a sender that leaves nothing behind when it is cancelled may send; ``_send`` takes a message all the same.

        Asked before ``_wait_for_room``, because a call costs less than an ``await`` that has nothing to wait for.
        """
        return True

    async def _wait_for_room(self) -> None:
        """Wait while the output buffer is over its high-water mark. Not a checkpoint if it does not have to wait."""

    @abstractmethod
    async def _subscribe(self, interest: Interest) -> SubscriptionBase:
        """See `FastPath`.

        Raises:
            ConnectionClosedError: it is closed.
        """

    @property
    def _takes_headers(self) -> bool:
        """See `FastPath`."""
        return True

    @property
    def _may_deliver(self) -> bool:
        """See `FastPath`."""
        return self.is_connected

    @abstractmethod
    async def _send(
        self, subject: str, data: bytes = b"", *, reply: str = "", headers: HeadersInput | None = None
    ) -> None:
        """See `FastPath`."""

    def _publish_nowait(self, subject: str, data: bytes) -> bool:  # noqa: ARG002  # for those that have a faster way
        """Publish if nothing has to be checked or waited for; return false with nothing sent otherwise."""
        return False

    def _answer_nowait(self, reply: str, data: bytes) -> bool:  # noqa: ARG002  # for those that have a faster way
        """See `FastPath`."""
        return False  # pragma: no cover - each connection here has a faster way

    def _push_answers(self) -> None:
        """See `FastPath`."""

    def _refuse_nowait(self, reply: str, headers: Headers) -> bool:  # noqa: ARG002  # for those that have a faster way
        """See `FastPath`."""
        return False  # pragma: no cover - each connection here has a faster way

    def _wakeups(self) -> Wakeups:
        """See `FastPath`."""
        return PlainWakeups()

    def _hold_open(self, on_drain: Callable[[], None]) -> Callable[[], None]:  # noqa: ARG002  # for those that are drained
        """See `FastPath`."""
        return lambda: None

    async def request(
        self, subject: str, data: bytes = b"", *, headers: HeadersInput | None = None, **unknown: Never
    ) -> Message:
        """See `abc.Connection`."""
        if unknown:
            refuse_options("request", unknown, _REQUEST_HINTS)
        check_argument("subject", subject, literal_subject_rule)
        self._home.check()
        return await self._requests.request(subject, data, headers)

    def new_inbox(self) -> str:
        """See `abc.Connection`."""
        return f"{self._inbox}-{next(self._reply_tokens)}"

    def _emit(self, event: ConnectionEvent) -> None:
        if self._is_closed:
            return
        if event.kind is EventKind.CLOSED:
            self._is_closed = True
            self._reason = event.error
            self._closed.set()
        for listener in tuple(self._listeners.values()):
            try:
                listener(event)
            except Exception:
                logger.exception("a listener of the NATS connection raised")

    def _report(self, error: Exception) -> None:
        """Emit an error that ends nothing, such as that of a subscription that has no ``on_error``."""
        self._emit(ConnectionEvent(EventKind.ERROR, error))

    def _raise_if_closed(self) -> None:
        if self._is_closed:
            raise ConnectionClosedError.because(self._reason)


@final
class _Pending:
    """One request that waits for its reply."""

    __slots__ = ("denied", "is_done", "reply", "subject", "wakeup")

    def __init__(self, subject: str, wakeup: Wakeup) -> None:
        self.subject = subject
        self.wakeup = wakeup
        self.is_done = False
        self.denied: NatseryError | None = None
        self.reply: Message | None = None

    def end(self) -> None:
        """Have the task go on that waits."""
        self.is_done = True
        self.wakeup.set()

    async def wait(self) -> None:
        """Wait for the end. A checkpoint."""
        if self.is_done:
            await checkpoint()
        else:
            await self.wakeup.wait()


@final
class _Inbox:
    """One attempt to subscribe to the replies to all requests.

    Args:
        on_denied: called when the server refuses it, at once or later.
        report: called with any other error, such as that replies were dropped.
    """

    def __init__(self, on_denied: Callable[[], None], report: Callable[[NatseryError], None]) -> None:
        self._on_denied = on_denied
        self._report = report
        self.subscription: abc.Subscription | None = None
        self.is_denied = False

    def on_error(self, error: NatseryError) -> None:
        if isinstance(error, SubscriptionDeniedError):
            self.is_denied = True
            self._on_denied()
        else:
            self._report(error)


@final
class _Requests:
    """Requests and their replies over one wildcard subscription, made when it is first needed."""

    def __init__(self, connection: ConnectionBase, inbox: str, tokens: Iterator[str]) -> None:
        self._connection = connection
        self._prefix = inbox
        self._tokens = tokens
        self._pending: dict[str, _Pending] = {}
        self._lock = anyio.Lock()
        self._inbox: _Inbox | None = None
        self._new_wakeup: Callable[[], Wakeup] = new_wakeup

    async def request(self, subject: str, data: bytes, headers: HeadersInput | None) -> Message:
        # It waits for the reply in any case, so that other tasks get their turn.
        await self._connection._turns.checkpoint_if_cancelled()
        if self._inbox is None or self._inbox.is_denied:
            async with self._lock:
                await self._open_inbox()
        if not self._connection._has_room():
            await self._connection._wait_for_room()
        token = next(self._tokens)
        pending = self._pending[token] = _Pending(subject, self._new_wakeup())
        try:
            await self._connection._send(subject, data, reply=f"{self._prefix}.{token}", headers=headers)
            await pending.wait()
        finally:
            del self._pending[token]
        if pending.reply is None:
            if pending.denied is not None:
                raise pending.denied
            raise ConnectionClosedError.because(self._connection._reason)
        if pending.reply.status == _NO_RESPONDERS:
            raise NoRespondersError(subject)
        return pending.reply

    async def _open_inbox(self) -> None:
        """Subscribe to the replies, if that has not been done or was refused.

        After a refusal it waits for the server's word, so that no request is sent whose reply could not be received.
        """
        previous = self._inbox
        if previous is not None and not previous.is_denied:
            return
        if previous is not None and previous.subscription is not None:
            await previous.subscription.unsubscribe()
        inbox = _Inbox(self._fail_all, self._connection._report)
        inbox.subscription = await self._connection.add_subscription(
            f"{self._prefix}.*", self._deliver, on_error=inbox.on_error
        )
        self._inbox = inbox
        self._new_wakeup = wakeup_class()
        if previous is None:
            self._connection.add_listener(self._on_event)
            return
        await settle(self._connection)
        if inbox.is_denied:
            raise self._inbox_denied()

    def _inbox_denied(self) -> SubscriptionDeniedError:
        return SubscriptionDeniedError(f"{self._prefix}.*")

    def _deliver(self, message: Message) -> None:
        pending = self._pending.get(message.subject.rpartition(".")[2])
        if pending is not None and pending.reply is None:
            pending.reply = message
            pending.end()

    def _fail_all(self) -> None:
        """Fail every request, because none can be answered without the inbox."""
        for pending in self._pending.values():
            pending.denied = pending.denied or self._inbox_denied()
            pending.end()

    def _on_event(self, event: ConnectionEvent) -> None:
        if event.kind is EventKind.CLOSED:
            for pending in self._pending.values():
                pending.end()
        elif isinstance(event.error, PublishDeniedError):
            # A server denies subjects, not messages: no request to this one will be answered.
            for pending in self._pending.values():
                if event.error.concerns(pending.subject):
                    pending.denied = PublishDeniedError(event.error.subject)
                    pending.end()
