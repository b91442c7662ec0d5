"""What natsery's connections have in common: listeners, the closed state, subscriptions, requests over one inbox."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable
from typing import final

import anyio
from anyio.lowlevel import checkpoint

from . import abc
from ._checks import check_argument
from ._errors import (
    ConnectionClosedError,
    NatseryError,
    NoRespondersError,
    PublishDeniedError,
    SlowConsumerError,
    SubscriptionDeniedError,
)
from ._events import ConnectionEvent, EventKind, Listener
from ._fast_path import Interest
from ._message import Deliver, Headers, HeadersInput, Message
from ._protocol._commands import as_bytes
from ._subjects import LINE_OVERHEAD, MAX_CONTROL_LINE, literal_subject_rule, queue_group_rule, subject_rule
from ._turns import Turns

logger = logging.getLogger("natsery")

_NO_RESPONDERS = 503


class SubscriptionBase(abc.Subscription):
    """The parts of `abc.Subscription` that do not depend on how bytes travel."""

    def __init__(self, interest: Interest) -> None:
        self.subject = interest.subject
        self.queue_group = interest.queue_group
        self.delivered = 0
        self.dropped = 0
        self._deliver = interest.deliver
        self._on_error = interest.on_error
        self._message_type = interest.message_type

    async def unsubscribe(self) -> None:
        """See `abc.Subscription`."""
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


class ConnectionBase(abc.Connection):
    """The parts of `abc.Connection` that do not depend on how bytes travel."""

    _max_subjects: int = MAX_CONTROL_LINE - LINE_OVERHEAD

    def __init__(self, inbox: str) -> None:
        self._listeners: list[Listener] = []
        self._closed = anyio.Event()
        self._is_closed = False
        self._reason: Exception | None = None
        self._inbox = inbox
        self._inboxes = 0
        self._requests = _Requests(self, inbox)
        self._turns = Turns()

    @property
    def is_closed(self) -> bool:
        """See `abc.Connection`."""
        return self._is_closed

    async def wait_closed(self) -> None:
        """See `abc.Connection`."""
        await self._closed.wait()

    def add_listener(self, listener: Listener) -> Callable[[], None]:
        """See `abc.Connection`."""
        self._listeners.append(listener)

        def remove() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return remove

    async def publish(
        self, subject: str, data: bytes = b"", *, reply: str = "", headers: HeadersInput | None = None
    ) -> None:
        """See `abc.Connection`."""
        check_argument("subject", subject, literal_subject_rule)
        if reply:
            check_argument("reply", reply, literal_subject_rule)
        if type(data) is not bytes:
            data = as_bytes(data)
        await self._turns.checkpoint(len(data))
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
        await checkpoint()
        return await self._subscribe(Interest(subject, queue_group, deliver, on_error or self._report))

    @abstractmethod
    async def _subscribe(self, interest: Interest) -> SubscriptionBase:
        """See `FastPath`.

        Raises:
            ConnectionClosedError: it is closed.
        """

    @abstractmethod
    async def _send(
        self, subject: str, data: bytes = b"", *, reply: str = "", headers: HeadersInput | None = None
    ) -> None:
        """See `FastPath`."""

    def _answer_nowait(self, reply: str, data: bytes) -> bool:  # noqa: ARG002  # for those that have a faster way
        """See `FastPath`."""
        return False

    def _refuse_nowait(self, reply: str, headers: Headers) -> bool:  # noqa: ARG002  # for those that have a faster way
        """See `FastPath`."""
        return False

    async def request(self, subject: str, data: bytes = b"", *, headers: HeadersInput | None = None) -> Message:
        """See `abc.Connection`."""
        check_argument("subject", subject, literal_subject_rule)
        return await self._requests.request(subject, data, headers)

    def new_inbox(self) -> str:
        """See `abc.Connection`."""
        self._inboxes += 1
        return f"{self._inbox}-{self._inboxes}"

    def _emit(self, event: ConnectionEvent) -> None:
        if event.kind is EventKind.CLOSED:
            if self._is_closed:
                return
            self._is_closed = True
            self._reason = event.error
            self._closed.set()
        for listener in list(self._listeners):
            try:
                listener(event)
            except Exception:
                logger.exception("a listener of the NATS connection raised")

    def _report(self, error: NatseryError) -> None:
        """Emit an error of a subscription that has no ``on_error``."""
        self._emit(ConnectionEvent(EventKind.ERROR, error))

    def _raise_if_closed(self) -> None:
        if self._is_closed:
            raise ConnectionClosedError.because(self._reason)


@final
class _Pending:
    """One request that waits for its reply."""

    __slots__ = ("denied", "done", "reply", "subject")

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.denied: NatseryError | None = None
        self.done = anyio.Event()
        self.reply: Message | None = None


@final
class _Requests:
    """Requests and their replies over one wildcard subscription, made when it is first needed."""

    def __init__(self, connection: ConnectionBase, inbox: str) -> None:
        self._connection = connection
        self._inbox = inbox
        self._pending: dict[str, _Pending] = {}
        self._count = 0
        self._lock = anyio.Lock()
        self._subscription: abc.Subscription | None = None
        self._denied: NatseryError | None = None

    async def request(self, subject: str, data: bytes, headers: HeadersInput | None) -> Message:
        await checkpoint()
        if self._subscription is None:
            async with self._lock:
                if self._subscription is None:
                    self._subscription = await self._connection.add_subscription(
                        f"{self._inbox}.*", self._deliver, on_error=self._on_error
                    )
                    self._connection.add_listener(self._on_event)
        if self._denied is not None:
            raise self._denied
        self._count += 1
        token = str(self._count)
        pending = self._pending[token] = _Pending(subject)
        try:
            await self._connection._send(subject, data, reply=f"{self._inbox}.{token}", headers=headers)
            await pending.done.wait()
        finally:
            del self._pending[token]
        if pending.reply is None:
            denied = pending.denied or self._denied
            if denied is not None:
                raise denied
            raise ConnectionClosedError.because(self._connection._reason)
        if pending.reply.status == _NO_RESPONDERS:
            raise NoRespondersError(subject)
        return pending.reply

    def _deliver(self, message: Message) -> None:
        pending = self._pending.get(message.subject.rpartition(".")[2])
        if pending is not None and pending.reply is None:
            pending.reply = message
            pending.done.set()

    def _on_error(self, error: NatseryError) -> None:
        """Fail every request, because none can be answered without the inbox."""
        if isinstance(error, SubscriptionDeniedError):
            self._denied = error
            self._wake_all()

    def _wake_all(self) -> None:
        for pending in self._pending.values():
            pending.done.set()

    def _on_event(self, event: ConnectionEvent) -> None:
        if event.kind is EventKind.CLOSED:
            self._wake_all()
        elif isinstance(event.error, PublishDeniedError):
            # A server denies subjects, not messages: no request to this one will be answered.
            for pending in self._pending.values():
                if event.error.concerns(pending.subject):
                    pending.denied = event.error
                    pending.done.set()
