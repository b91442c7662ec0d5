"""The reader: received bytes in, messages delivered to subscriptions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, final

from .._errors import MalformedMessageError
from .._protocol._messages import read_message
from .._protocol._parser import LARGE_MESSAGE, Event, MessageEvent, Parser

if TYPE_CHECKING:
    from ._fields import SubscriptionFields

logger = logging.getLogger("natsery")


@final
class Reader:
    """Parses what a server sends, and delivers each message as soon as it is complete, in the order of the wire.

    Args:
        subscriptions: where messages go, by sid; may change at any time. Messages for others are dropped.
        on_event: called with each event that is not a message. What it raises leaves ``feed``.
        on_malformed: called with each message that cannot be delivered, because it is not UTF-8 or its headers are not
            well-formed.
    """

    __slots__ = ("_on_event", "_on_malformed", "_parser", "_subscriptions")

    def __init__(
        self,
        subscriptions: Mapping[bytes, SubscriptionFields],
        on_event: Callable[[Event], None],
        on_malformed: Callable[[MessageEvent], None],
    ) -> None:
        self._subscriptions = subscriptions
        self._on_event = on_event
        self._on_malformed = on_malformed
        self._parser = Parser()

    @property
    def is_in_large_message(self) -> bool:
        """Whether what comes next is the rest of a large message, so that it is worth receiving much at once."""
        return self._parser.size_of_incomplete >= LARGE_MESSAGE

    def feed(self, data: bytes | memoryview) -> int:
        """Take the bytes that follow; return how many messages they complete, those that were not delivered included.

        An exception of a receiver is logged. After a `ProtocolError`, which is the last event, nothing more is read.

        Source: NATS client protocol.
        """
        if type(data) is not bytes:
            data = bytes(data)
        subscriptions = self._subscriptions
        count = 0
        for event in self._parser.feed(data):
            if type(event) is not tuple:
                self._on_event(event)
                continue
            count += 1
            subscription = subscriptions.get(event[0])
            if subscription is None:
                continue
            _, subject, reply, header_block, payload = event
            try:
                if header_block:
                    message = read_message(event, subscription._message_type)
                else:
                    # `read_message`, inlined: one call less for nearly every message.
                    text = subscription.subject if subject == subscription._subject else subject.decode()
                    message = subscription._message_type(text, payload, reply.decode())
            except (MalformedMessageError, UnicodeDecodeError):
                self._on_malformed(event)
                continue
            subscription.delivered += 1
            try:
                subscription._deliver(message)
            except Exception:
                logger.exception("delivering a message on %r failed", subscription.subject)
        return count
