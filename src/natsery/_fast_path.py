"""What the service layer asks of a connection beyond `natsery.abc`, for speed; not part of the public interface."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol, final

from ._core import HeldAnswers
from ._errors import ConnectionLostError
from ._message import Deliver, Message
from ._subjects import LINE_OVERHEAD, MAX_CONTROL_LINE
from ._wakeup import PlainWakeups, Wakeups

if TYPE_CHECKING:
    from . import abc
    from ._errors import NatseryError
    from ._headers import Headers, HeadersInput


@final
class Interest(NamedTuple):
    """What a subscription is to receive, and how."""

    subject: str
    queue_group: str
    """``""`` for none."""
    deliver: Deliver
    """Takes the messages."""
    on_error: Callable[[NatseryError], None]
    """Told of what goes wrong with the subscription."""
    message_type: type[Message] = Message
    """What messages are made as: `Message` or a subclass with no other parameters."""


class FastSubscription(Protocol):
    """A subscription that can be ended without a checkpoint."""

    async def _unsubscribe(self) -> None:
        """As `abc.Subscription.unsubscribe`, but no checkpoint."""


class FastPath(Protocol):
    """A connection without the checks, checkpoints and cancellation points that the public methods have.

    `ConnectionBase` has it; `fast_path` makes it from the public methods of any other connection.
    """

    _max_subjects: int
    """Bytes that a subject and a reply subject may have together, so that the server takes the line they travel in."""

    _held: HeldAnswers
    """What is noted of answers that wait for others."""

    @property
    def _takes_headers(self) -> bool:
        """Whether the server takes messages with headers."""
        ...

    @property
    def _may_deliver(self) -> bool:
        """Whether there is a server that may have messages for this connection, one that is being left included."""
        ...

    async def _send(
        self, subject: str, data: bytes = b"", *, reply: str = "", headers: HeadersInput | None = None
    ) -> None:
        """Take a message to be sent, whether or not the task is cancelled. Subjects are only looked at for white space.

        Raises:
            ValueError, TypeError, MaxPayloadError, OutboundBufferError, ConnectionClosedError: nothing was sent.

        **Cancellation:** it waits only while the output buffer is over its high-water mark, and only after the message was
        taken: cancelled there, the message is sent all the same, so that each sender has at most one message beyond the mark.
        Through nats-py it may also wait before, while twice the mark waits: cancelled there, nothing is sent. Otherwise it
        is not a checkpoint.
        """

    def _answer_nowait(self, reply: str, data: bytes) -> bool:
        """Publish to the reply subject of a message that this connection has delivered, if that needs no waiting.

        The subject is not checked, for it came off the wire as one field.

        Returns:
            False if nothing was sent; ``_send`` then sends it, or raises what is in the way.
        """
        ...

    def _push_answers(self) -> None:
        """Send the answers that wait for others, as far as that needs no waiting. Must not raise."""

    def _refuse_nowait(self, reply: str, headers: Headers) -> bool:
        """Publish headers without a payload, otherwise as ``_answer_nowait``."""
        ...

    async def _subscribe(self, interest: Interest) -> FastSubscription:
        """Subscribe to a subject that has been checked. Not a checkpoint unless it has to wait."""
        ...

    def _wakeups(self) -> Wakeups:
        """Return what makes the wake-ups of the tasks that handle messages, and runs these tasks."""
        ...

    def _hold_open(self, on_drain: Callable[[], None]) -> Callable[[], None]:
        """Call ``on_drain`` when a program drains the client below, which does not close before what is returned is called."""
        ...


def fast_path(connection: abc.Connection) -> FastPath:
    """Return the fast path of a connection: its own if it has one, otherwise one made of its public methods."""
    from ._connection_base import ConnectionBase

    return connection if isinstance(connection, ConnectionBase) else _PublicPath(connection)


async def settle(connection: abc.Connection) -> None:
    """Wait until the server has taken all subscriptions and their ends, on a later network connection if this one ends.

    As ``flush``, but for what is not lost with a network connection: subscriptions are sent again on the next one, and those
    that have been ended are not.
    """
    while True:
        try:
            await connection.flush()
        except ConnectionLostError:
            continue
        return


@final
class _PublicPath:
    """The fast path of a connection that has none."""

    _max_subjects = MAX_CONTROL_LINE - LINE_OVERHEAD
    _takes_headers = True

    def __init__(self, connection: abc.Connection) -> None:
        self._connection = connection
        self._held = HeldAnswers()

    async def _send(
        self, subject: str, data: bytes = b"", *, reply: str = "", headers: HeadersInput | None = None
    ) -> None:
        await self._connection.publish(subject, data, reply=reply, headers=headers)

    def _answer_nowait(self, reply: str, data: bytes) -> bool:  # noqa: ARG002  # the protocol's parameters
        return False

    def _push_answers(self) -> None:
        pass

    def _refuse_nowait(self, reply: str, headers: Headers) -> bool:  # noqa: ARG002  # the protocol's parameters
        return False

    @property
    def _may_deliver(self) -> bool:
        return self._connection.is_connected

    def _wakeups(self) -> Wakeups:
        return PlainWakeups()

    def _hold_open(self, on_drain: Callable[[], None]) -> Callable[[], None]:  # noqa: ARG002  # the protocol's parameters
        return lambda: None

    async def _subscribe(self, interest: Interest) -> FastSubscription:
        message_type, deliver = interest.message_type, interest.deliver

        def deliver_as_type(message: Message) -> None:
            deliver(message_type(message.subject, message.data, message.reply, message.headers, message.status))

        subscription = await self._connection.add_subscription(
            interest.subject, deliver_as_type, queue_group=interest.queue_group, on_error=interest.on_error
        )
        return _PublicSubscription(subscription)


@final
class _PublicSubscription:
    """A subscription of a connection that has no fast path."""

    def __init__(self, subscription: abc.Subscription) -> None:
        self._subscription = subscription

    async def _unsubscribe(self) -> None:
        await self._subscription.unsubscribe()
