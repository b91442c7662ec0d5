"""The subscriptions of a connection, which are sent to every new server."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import final

from .._connection_base import SubscriptionBase
from .._fast_path import Interest
from .._home import Home
from .._protocol import _commands
from .._protocol._server_errors import DeniedSubscription


@final
class NativeSubscription(SubscriptionBase):
    """Interest in a subject, sent again on every network connection.

    Attributes:
        sid: the number that identifies it on the wire.
        is_ending: whether it has been unsubscribed.
    """

    __slots__ = ("_unsubscribe_nowait", "is_ending", "sid")

    def __init__(
        self, sid: bytes, interest: Interest, home: Home, unsubscribe_nowait: Callable[[NativeSubscription], None]
    ) -> None:
        super().__init__(interest, home)
        self._subject = interest.subject.encode()
        self.sid = sid
        self.is_ending = False
        self._unsubscribe_nowait = unsubscribe_nowait

    async def _unsubscribe(self) -> None:
        if not self.is_ending:
            self.is_ending = True
            self._unsubscribe_nowait(self)

    @property
    def command(self) -> bytes:
        """The SUB command."""
        return _commands.subscribe(self.subject, self.queue_group, self.sid)


@final
class Subscriptions:
    """The subscriptions of one connection.

    Args:
        home: the event loop of the connection.
        unsubscribe_nowait: tells the server that a subscription has ended.

    Attributes:
        by_sid: the subscriptions for which messages may still arrive.
    """

    def __init__(self, home: Home, unsubscribe_nowait: Callable[[NativeSubscription], None]) -> None:
        self._home = home
        self._unsubscribe_nowait = unsubscribe_nowait
        self.by_sid: dict[bytes, NativeSubscription] = {}
        self._last_sid = 0
        self._by_interest: dict[tuple[str, str], list[NativeSubscription]] | None = None

    def add(self, interest: Interest) -> NativeSubscription:
        """Add a subscription, without telling the server about it."""
        self._last_sid += 1
        sid = b"%d" % self._last_sid
        subscription = NativeSubscription(sid, interest, self._home, self._unsubscribe_nowait)
        self.by_sid[sid] = subscription
        self._by_interest = None
        return subscription

    def live(self) -> list[NativeSubscription]:
        """Return the subscriptions that have not been unsubscribed, in the order in which they were added."""
        return [each for each in self.by_sid.values() if not each.is_ending]

    def denied(self, denied: DeniedSubscription) -> list[NativeSubscription]:
        """Return the subscriptions that an error of the server is about.

        A server that denies many sends an error for each, and does not always name the sid: so all are looked through once,
        and not once for each error.
        """
        if denied.sid:
            subscription = self.by_sid.get(denied.sid)
            return [] if subscription is None else [subscription]
        if self._by_interest is None:
            self._by_interest = {}
            for each in self.by_sid.values():
                self._by_interest.setdefault((each.subject, each.queue_group), []).append(each)
        return list(self._by_interest.get((denied.subject, denied.queue_group), ()))

    def remove(self, subscriptions: Iterable[NativeSubscription]) -> None:
        """Remove subscriptions for which no more messages will arrive."""
        for subscription in subscriptions:
            self.by_sid.pop(subscription.sid, None)
            self._by_interest = None

    def remove_ending(self) -> None:
        """Remove the unsubscribed ones, because no more messages will arrive from the previous server."""
        self.remove([each for each in self.by_sid.values() if each.is_ending])

    def clear(self) -> None:
        """Remove all of them."""
        self.by_sid.clear()
        self._by_interest = None
