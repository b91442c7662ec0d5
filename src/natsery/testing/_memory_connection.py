"""The connections of a `MemoryBroker`, and their subscriptions."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, final

import anyio
from anyio.lowlevel import checkpoint

from .._connection_base import ConnectionBase, SubscriptionBase
from .._errors import (
    ConnectionLostError,
    OutboundBufferError,
)
from .._events import ConnectionEvent, EventKind
from .._fast_path import Interest
from .._headers import NO_HEADERS, Headers, HeadersInput
from .._message import Message
from .._protocol import _commands
from .._subjects import is_allowed, matches

if TYPE_CHECKING:
    from ._memory_broker import MemoryBroker

logger = logging.getLogger("natsery")

MAX_PENDING_BYTES = 8 * 1024 * 1024
"""Bytes of messages that wait while a connection is disconnected; more is refused."""


@final
class MemorySubscription(SubscriptionBase):
    """A subscription of a `MemoryConnection`.

    Attributes:
        number: which one of its broker's it is.
    """

    def __init__(
        self,
        connection: MemoryConnection,
        interest: Interest,
    ) -> None:
        super().__init__(interest, connection._home)
        self.number: int = connection._broker._next_subscription()
        self._is_active = False
        self._connection = connection

    @property
    def is_receiving(self) -> bool:
        """Whether it receives messages: not while it is denied or its connection is disconnected."""
        return self._is_active and self._connection.is_connected

    async def _unsubscribe(self) -> None:
        self._connection._remove(self)

    def _delivery(self, message: Message) -> Callable[[], None]:
        """Return a function that delivers a message to this subscription, unless its connection disconnects first."""
        generation = self._connection._generation

        def deliver() -> None:
            if generation != self._connection._generation:
                return
            if self._connection._should_drop(self.subject):
                self._lose(1)
            else:
                self._take(
                    self._message_type(message.subject, message.data, message.reply, message.headers, message.status)
                )

        return deliver


@final
class MemoryConnection(ConnectionBase):
    """A connection to a `MemoryBroker`; made by its ``connect``."""

    def __init__(
        self, broker: MemoryBroker, may_publish: tuple[str, ...] | None, may_subscribe: tuple[str, ...] | None
    ) -> None:
        # Not random, so that each run of a test sees the same subjects.
        super().__init__(f"_INBOX.{broker._next_number()}", map(str, count(1)))
        self._may_publish = may_publish
        self._generation = 0
        """Increased by each disconnect; messages on the way from an earlier generation are lost."""
        self._broker = broker
        self._may_subscribe = may_subscribe
        self._subscriptions: dict[MemorySubscription, None] = {}  # in order
        self._reconnected: anyio.Event | None = None
        self._fences: set[anyio.Event] = set()
        self._waiting: list[Message] = []
        self._waiting_bytes = 0
        self._drops: Counter[str] = Counter()

    @property
    def max_payload(self) -> int:
        """See `abc.Connection`."""
        return self._broker.max_payload

    @property
    def is_connected(self) -> bool:
        """See `abc.Connection`."""
        return self._reconnected is None and not self._is_closed

    async def _send(
        self, subject: str, data: bytes = b"", *, reply: str = "", headers: HeadersInput | None = None
    ) -> None:
        self._raise_if_closed()
        block = None if headers is None else Headers(headers)
        frame = _commands.publish(subject, data, reply, block, self.max_payload)
        message = Message(subject, bytes(data), reply, block or NO_HEADERS)
        if self._reconnected is None:
            self._broker._route(self, message)
        elif self._waiting_bytes + len(frame) > MAX_PENDING_BYTES:
            raise OutboundBufferError
        else:
            self._waiting.append(message)
            self._waiting_bytes += len(frame)

    def _answer_nowait(self, reply: str, data: bytes) -> bool:
        if not self.is_connected or len(data) > self.max_payload:
            return False
        self._broker._route(self, Message(reply, data))
        return True

    def _refuse_nowait(self, reply: str, headers: Headers) -> bool:
        if not self.is_connected:
            return False
        _commands.publish(reply, b"", "", headers, self.max_payload)  # for its checks
        self._broker._route(self, Message(reply, headers=headers))
        return True

    async def _subscribe(self, interest: Interest) -> MemorySubscription:
        self._raise_if_closed()
        subscription = MemorySubscription(self, interest)
        self._subscriptions[subscription] = None
        self._broker._index.add(subscription)
        if self._reconnected is None:
            self._activate(subscription)
        return subscription

    async def flush(self) -> None:
        """See `abc.Connection`."""
        self._home.check()
        await checkpoint()
        while True:
            self._raise_if_closed()
            if self._reconnected is not None:
                await self._reconnected.wait()
                continue
            passed, generation = anyio.Event(), self._generation
            self._fences.add(passed)
            self._broker._post(passed.set)
            try:
                await passed.wait()
            finally:
                self._fences.discard(passed)
            if generation == self._generation:
                self._raise_if_closed()
                return

    async def aclose(self) -> None:
        """See `abc.Connection`."""
        self._home.check()
        self._close()
        await checkpoint()

    # Called by the broker

    def _active(self) -> list[MemorySubscription]:
        """Return the subscriptions that receive messages: none while the connection is disconnected."""
        return [each for each in self._subscriptions if each.is_receiving]

    def _remove(self, subscription: MemorySubscription) -> None:
        """Remove a subscription; messages on the way to it still arrive."""
        subscription._is_active = False
        self._subscriptions.pop(subscription, None)
        self._broker._index.discard(subscription)

    def _should_drop(self, subject: str) -> bool:
        """Return whether to drop the next message for a subscription to ``subject``."""
        for wanted in self._drops:
            if self._drops[wanted] > 0 and matches(wanted, subject):
                self._drops[wanted] -= 1
                return True
        return False

    def _drop_next(self, subject: str, count: int) -> None:
        """Drop the next messages for subscriptions to a subject."""
        self._drops[subject] += count

    def _permit(self, may_publish: tuple[str, ...] | None, may_subscribe: tuple[str, ...] | None) -> None:
        """Change the permissions, and deny subscriptions that they do not allow."""
        self._may_publish, self._may_subscribe = may_publish, may_subscribe
        for subscription in self._active():
            if not is_allowed(may_subscribe, subscription.subject, subscription.queue_group):
                self._activate(subscription)

    def _disconnect(self, error: ConnectionLostError) -> None:
        """Disconnect from the broker."""
        if self.is_connected:
            self._generation += 1
            self._reconnected = anyio.Event()
            for subscription in self._subscriptions:
                subscription._is_active = False
            self._emit(ConnectionEvent(EventKind.DISCONNECTED, error))

    def _reconnect(self) -> None:
        """Connect to the broker again, and send what has waited."""
        if self._reconnected is None or self._is_closed:
            return
        reconnected, self._reconnected = self._reconnected, None
        for subscription in self._subscriptions:
            self._activate(subscription)
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        for message in waiting:
            self._broker._route(self, message)
        reconnected.set()
        self._emit(ConnectionEvent(EventKind.RECONNECTED))

    def _close(self) -> None:
        """Close for good, at once."""
        if self._is_closed:
            return
        self._generation += 1
        self._broker._forget(self)
        for subscription in tuple(self._subscriptions):
            self._remove(subscription)
        self._emit(ConnectionEvent(EventKind.CLOSED))
        if self._reconnected is not None:
            self._reconnected.set()
        for passed in self._fences:
            passed.set()

    def _activate(self, subscription: MemorySubscription) -> None:
        subscription._is_active = is_allowed(self._may_subscribe, subscription.subject, subscription.queue_group)
        if not subscription._is_active:
            self._broker._post(subscription._deny)
