"""A connection to a broker in memory."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
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
from .._message import Headers, HeadersInput, Message
from .._protocol import _commands
from .._subjects import is_allowed, matches

if TYPE_CHECKING:
    from ._memory_broker import MemoryBroker

logger = logging.getLogger("natsery")

MAX_PENDING_BYTES = 8 * 1024 * 1024
"""Bytes of messages that wait while a connection is away; more is refused."""


@final
class MemorySubscription(SubscriptionBase):
    """Interest in a subject at a broker in memory."""

    def __init__(
        self,
        connection: MemoryConnection,
        interest: Interest,
    ) -> None:
        super().__init__(interest)
        self._is_active = False
        self._connection = connection

    async def _unsubscribe(self) -> None:
        self._connection._remove(self)

    def _delivery(self, message: Message) -> Callable[[], None]:
        """Return what gives this subscription a message, unless its connection goes away first."""
        spell = self._connection._spell

        def deliver() -> None:
            if spell != self._connection._spell:
                return
            if self._connection._is_to_drop(self.subject):
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
        # No random name: a test is to see the same subjects every time.
        super().__init__(f"_INBOX.{len(broker._connections) + 1}")
        self._may_publish = may_publish
        self._spell = 0
        """How often it has come and gone; what was on the way in another spell is lost."""
        self._broker = broker
        self._may_subscribe = may_subscribe
        self._subscriptions: list[MemorySubscription] = []
        self._back: anyio.Event | None = None
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
        return self._back is None and not self._is_closed

    async def _send(
        self, subject: str, data: bytes = b"", *, reply: str = "", headers: HeadersInput | None = None
    ) -> None:
        self._raise_if_closed()
        frame = _commands.publish(subject, data, reply, headers, self.max_payload)
        message = Message(subject, bytes(data), reply, Headers(headers))
        if self._back is None:
            self._broker._route(self, message)
        elif self._waiting_bytes + len(frame) > MAX_PENDING_BYTES:
            raise OutboundBufferError
        else:
            self._waiting.append(message)
            self._waiting_bytes += len(frame)

    async def _subscribe(self, interest: Interest) -> MemorySubscription:
        self._raise_if_closed()
        subscription = MemorySubscription(self, interest)
        self._subscriptions.append(subscription)
        if self._back is None:
            self._begin(subscription)
        return subscription

    async def flush(self) -> None:
        """See `abc.Connection`."""
        await checkpoint()
        while True:
            self._raise_if_closed()
            if self._back is not None:
                await self._back.wait()
                continue
            passed, spell = anyio.Event(), self._spell
            self._broker._post(passed.set)
            await passed.wait()
            if spell == self._spell:
                self._raise_if_closed()
                return

    async def aclose(self) -> None:
        """See `abc.Connection`."""
        self._close()
        await checkpoint()

    # What the broker does with it

    def _active(self) -> Iterator[MemorySubscription]:
        """Return the subscriptions that the broker knows, while the connection is there."""
        return (each for each in self._subscriptions if each._is_active and self.is_connected)

    def _remove(self, subscription: MemorySubscription) -> None:
        """Send a subscription nothing more; what has been sent still arrives."""
        subscription._is_active = False
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)

    def _is_to_drop(self, subject: str) -> bool:
        """Whether the next message for a subscription must be dropped."""
        for wanted in self._drops:
            if self._drops[wanted] > 0 and matches(wanted, subject):
                self._drops[wanted] -= 1
                return True
        return False

    def _drop_next(self, subject: str, count: int) -> None:
        """Lose the next messages for subscriptions to a subject."""
        self._drops[subject] += count

    def _permit(self, may_publish: tuple[str, ...] | None, may_subscribe: tuple[str, ...] | None) -> None:
        """Take other permissions."""
        self._may_publish, self._may_subscribe = may_publish, may_subscribe
        for subscription in list(self._active()):
            if not is_allowed(may_subscribe, subscription.subject, subscription.queue_group):
                self._begin(subscription)

    def _lose(self, error: ConnectionLostError) -> None:
        """Disconnect."""
        if self.is_connected:
            self._spell += 1
            self._back = anyio.Event()
            for subscription in self._subscriptions:
                subscription._is_active = False
            self._emit(ConnectionEvent(EventKind.DISCONNECTED, error))

    def _come_back(self) -> None:
        """Reconnect."""
        if self._back is None or self._is_closed:
            return
        back, self._back = self._back, None
        for subscription in self._subscriptions:
            self._begin(subscription)
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        for message in waiting:
            self._broker._route(self, message)
        back.set()
        self._emit(ConnectionEvent(EventKind.RECONNECTED))

    def _close(self) -> None:
        """Close for good, at once."""
        if self._is_closed:
            return
        self._spell += 1
        self._broker._forget(self)
        self._subscriptions.clear()
        self._emit(ConnectionEvent(EventKind.CLOSED))
        if self._back is not None:
            self._back.set()

    def _begin(self, subscription: MemorySubscription) -> None:
        subscription._is_active = is_allowed(self._may_subscribe, subscription.subject, subscription.queue_group)
        if not subscription._is_active:
            self._broker._post(subscription._deny)
