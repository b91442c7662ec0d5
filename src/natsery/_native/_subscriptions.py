"""What a connection is subscribed to, and what its server has made of that."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import final

from .._connection_base import SubscriptionBase
from .._fast_path import Interest
from .._protocol import _commands
from .._protocol._server_errors import denied_subscription, is_too_many_subscriptions


@final
class NativeSubscription(SubscriptionBase):
    """Interest in a subject, made again on every network connection."""

    __slots__ = ("_end", "is_ending", "sid")

    def __init__(
        self,
        sid: bytes,
        interest: Interest,
        end: Callable[[NativeSubscription], None],
    ) -> None:
        super().__init__(interest)
        self.sid = sid
        self.is_ending = False
        self._end = end

    async def _unsubscribe(self) -> None:
        if not self.is_ending:
            self.is_ending = True
            self._end(self)

    @property
    def command(self) -> bytes:
        """SUB for it."""
        return _commands.subscribe(self.subject, self.queue_group, self.sid)


@final
class Subscriptions:
    """The subscriptions of one connection.

    Attributes:
        by_sid: those of which messages may come, by the number that they travel under.
        last_sid: the number of the newest one, 0 before the first.
    """

    def __init__(self) -> None:
        self.by_sid: dict[bytes, NativeSubscription] = {}
        self.last_sid: int = 0
        self._ending: list[NativeSubscription] = []
        self._unconfirmed: list[NativeSubscription] = []

    def add(
        self,
        interest: Interest,
        end: Callable[[NativeSubscription], None],
    ) -> NativeSubscription:
        """A new one, that no server knows of."""
        self.last_sid += 1
        sid = b"%d" % self.last_sid
        subscription = NativeSubscription(sid, interest, end)
        self.by_sid[sid] = subscription
        return subscription

    def live(self) -> list[NativeSubscription]:
        """Those that go on, in the order of their making."""
        return [each for each in self.by_sid.values() if not each.is_ending]

    def begin(self, subscription: NativeSubscription) -> None:
        """The server is told of one, and may refuse it."""
        self._unconfirmed.append(subscription)

    def begin_all(self) -> list[NativeSubscription]:
        """Another server is told of all that go on; the others have ended, for nothing comes from the last one."""
        live = self.live()
        self.by_sid = {each.sid: each for each in live}
        self._ending = []
        self._unconfirmed = list(live)
        return live

    def end(self, subscription: NativeSubscription) -> None:
        """The server is told to send one nothing more; what it has sent is on the way."""
        self._ending.append(subscription)

    def take_ending(self) -> list[NativeSubscription]:
        """Those of which nothing comes after the answer to a PING that is sent now."""
        ending, self._ending = self._ending, []
        return ending

    def forget(self, subscriptions: Iterable[NativeSubscription]) -> None:
        """Nothing more comes of these."""
        for subscription in subscriptions:
            self.by_sid.pop(subscription.sid, None)

    def confirm(self, last_sid: int) -> None:
        """The server has taken all that it has not refused, up to this one."""
        self._unconfirmed = [each for each in self._unconfirmed if int(each.sid) > last_sid]

    def take_error(self, text: str) -> bool:
        """Tell the subscriptions that a complaint is about; false if it is about something else."""
        denied = denied_subscription(text)
        if denied is not None:
            for subscription in list(self.by_sid.values()):
                if denied.sid:
                    is_meant = subscription.sid == denied.sid
                else:
                    is_meant = (subscription.subject, subscription.queue_group) == (denied.subject, denied.queue_group)
                if is_meant:
                    subscription._deny()
            return True
        if is_too_many_subscriptions(text) and self._unconfirmed:
            # Once for each refused SUB: while the limit holds, the newest are those that are refused.
            self._unconfirmed.pop()._deny()
            return True
        return False
