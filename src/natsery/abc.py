"""The seam between services and NATS: what a connection is.

`natsery.connect`, `natsery.adapt`, `natsery.bridge` and `natsery.testing.MemoryBroker` make connections. The docstrings are the
contract that one test suite holds every implementation to.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from ._checks import check_argument, count_rule
from ._errors import NatseryError
from ._events import ConnectionEvent, EventKind, Listener
from ._fast_path import fast_path, settle
from ._headers import HeadersInput
from ._message import Deliver, Message
from ._streams import Events, Messages, unsubscribe_while_unwinding
from ._subjects import subject_rule
from ._usage import block, explain_options

__all__ = ("Connection", "Subscription")


_LOOP = "write 'async with nc.subscribe(subject) as messages:' and in it 'async for message in messages:'"
_SUBSCRIBE_HINTS = {
    "cb": _LOOP,
    "future": _LOOP,
    "queue": "write queue_group=...",
    "max_msgs": "leave the loop after so many messages",
    "pending_msgs_limit": "write max_pending=...",
    "pending_bytes_limit": "write max_pending=..., in messages",
}


class Subscription(ABC):
    """Interest in a subject, as a connection keeps it.

    Attributes:
        subject: the subject, wildcards included.
        queue_group: the queue group, ``""`` for none.
        delivered: messages handed to ``deliver`` so far.
        dropped: messages lost on the way to ``deliver`` because this program was too slow.
    """

    __slots__ = ()

    subject: str
    queue_group: str
    delivered: int
    dropped: int

    @abstractmethod
    async def unsubscribe(self) -> None:
        """Tell the server to send nothing more; what it has already sent is still delivered.

        What is still delivered has been delivered at the end of the next ``flush`` begun after this returns. Without a flush,
        delivery goes on until it is over. Safe twice, and on a connection that is away or closed.

        **Cancellation:** the UNSUB is sent all the same, unless the output buffer is full. A checkpoint.
        """


class Connection(ABC):
    """A connection to NATS. Its methods may be called concurrently, in the event loop that it was made in.

    Coroutine functions that are called in another event loop, as in another thread, or in a forked process raise a
    `RuntimeError`.
    """

    @property
    @abstractmethod
    def max_payload(self) -> int:
        """The most bytes that the server takes in one message, headers counted."""

    @property
    @abstractmethod
    def is_connected(self) -> bool:
        """Whether the server is there at this moment; false while reconnecting and once closed."""

    @property
    @abstractmethod
    def is_closed(self) -> bool:
        """Whether it is closed for good."""

    @abstractmethod
    async def publish(
        self, subject: str, data: bytes = b"", *, reply: str = "", headers: HeadersInput | None = None
    ) -> None:
        """Send a message: the connection takes it now and sends it soon and in order; while it is away, when it is back.

        Raises:
            TypeError, ValueError: an argument breaks a rule.
            MaxPayloadError: headers and payload together are over ``max_payload``.
            OutboundBufferError: the connection is away and its output buffer is full.
            ConnectionClosedError: it is closed.

        In each of these cases nothing was sent.

        **Cancellation:** each call is a cancellation point, and raises there with nothing sent, also when it has to wait
        because the output buffer is over its high-water mark; only through nats-py may the message be sent all the same,
        unless twice the mark was waiting already. Other tasks get their turn then, and at the latest after 64 calls or
        64 KiB.
        """

    @abstractmethod
    async def add_subscription(
        self,
        subject: str,
        deliver: Deliver,
        *,
        queue_group: str = "",
        on_error: Callable[[NatseryError], None] | None = None,
    ) -> Subscription:
        """Subscribe, and hand every message to ``deliver`` in the order of the wire.

        The server has accepted it only after a ``flush``. ``on_error`` is called, synchronously, with what goes wrong with this
        subscription: `SubscriptionDeniedError` when the server refuses it (before the end of that flush, or later when
        permissions change), `SlowConsumerError` when messages were dropped. Without it, these are ``error`` events of the
        connection. The subscription survives reconnects, until ``unsubscribe``.

        Raises:
            TypeError, ValueError: an argument breaks a rule.
            ConnectionClosedError: it is closed.

        **Cancellation:** nothing was subscribed. A checkpoint.
        """

    @abstractmethod
    async def flush(self) -> None:
        """Wait until all that was sent before has reached the server, and all that it sent before answering is delivered.

        This is a fence. While the connection is away it waits for the server to be back, without a limit: callers own
        deadlines. What was sent to a server that had been lost before the call is not waited for; a ``disconnected`` event has
        said so.

        Raises:
            ConnectionLostError: the network connection ended meanwhile, and with it perhaps what was sent before and not
                confirmed. If there is no such message, it waits for the server to be back. Only a native connection knows.
            ConnectionClosedError: it is closed, or becomes so meanwhile.

        **Cancellation:** only the waiting ends; the connection is unharmed. A checkpoint.
        """

    @abstractmethod
    async def request(self, subject: str, data: bytes = b"", *, headers: HeadersInput | None = None) -> Message:
        """Publish a message and wait for the first reply to it, without a limit: callers own deadlines.

        Raises:
            NoRespondersError: there is no subscription to the subject.
            SubscriptionDeniedError: this user may not subscribe to its own inbox; the next call tries again.
            PublishDeniedError: this user may not publish to the subject.
            TypeError, ValueError, MaxPayloadError, OutboundBufferError, ConnectionClosedError: as for ``publish``.

        **Cancellation:** the request may have been sent; a late reply is dropped. A checkpoint.
        """

    @abstractmethod
    def new_inbox(self) -> str:
        """Return a new subject for replies to this connection, below its inbox prefix; nothing is subscribed.

        Nobody can guess it, but for that of a `natsery.testing.MemoryBroker`. Not a checkpoint.
        """

    @abstractmethod
    def add_listener(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` with everything that happens to the connection; call what is returned to end that."""

    @contextmanager
    def events(self) -> Iterator[Events]:
        """Receive everything that happens to the connection during a block, beginning with its present state::

            with nc.events() as events:
                async for event in events:
                    print(event.kind, event.error)

        The first event is ``connected``, ``disconnected`` or ``closed``; the loop ends after ``closed``.
        """
        events = Events()
        if self.is_closed:
            events._put(ConnectionEvent(EventKind.CLOSED))
        else:
            events._put(ConnectionEvent(EventKind.CONNECTED if self.is_connected else EventKind.DISCONNECTED))
        stop_listening = self.add_listener(events._put)
        try:
            yield events
        finally:
            stop_listening()
            events._close()

    @abstractmethod
    async def wait_closed(self) -> None:
        """Wait until the connection is closed for good. A checkpoint."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close the connection for good, within a few seconds whatever the server does. Safe twice. A checkpoint."""

    @explain_options(_SUBSCRIBE_HINTS)
    @block("nc.subscribe")
    @asynccontextmanager
    async def subscribe(
        self, subject: str, *, queue_group: str = "", max_pending: int = 65_536
    ) -> AsyncIterator[Messages]:
        """Subscribe for the length of a block::

            async with nc.subscribe("orders.*") as messages:
                async for message in messages:
                    ...

        The server has accepted the subscription when the block begins. Leaving it unsubscribes; what has not been
        taken by then is dropped.

        Args:
            subject: what to listen to, wildcards allowed.
            queue_group: shares the messages among the group's members.
            max_pending: messages kept for a slow receiver; what comes beyond is dropped and counted in ``messages.dropped``.

        Raises:
            SubscriptionDeniedError: the server refuses it, at the start or later.
            SlowConsumerError: from the loop, once for each congestion, when messages were dropped.
            ConnectionClosedError: the connection closes.
            TypeError, ValueError: an argument breaks a rule.

        **Cancellation:** while entering, nothing stays subscribed. Entering is a checkpoint.
        """
        check_argument("subject", subject, subject_rule)
        check_argument("max_pending", max_pending, count_rule)
        messages = Messages(subject, max_pending, fast_path(self))
        stop_listening = self.add_listener(messages._on_event)
        try:
            subscription = await self.add_subscription(
                subject, messages._deliver, queue_group=queue_group, on_error=messages._on_error
            )
            try:
                await settle(self)
                messages._raise_failure()
                yield messages
            finally:
                messages._close()
                await unsubscribe_while_unwinding(subscription)  # noqa: ASYNC102  # shielded and bounded in there
        finally:
            stop_listening()
