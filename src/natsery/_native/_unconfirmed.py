"""Commands that a server has not confirmed yet: each PONG confirms all that was sent before its PING."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import final

import anyio

from ._subscriptions import NativeSubscription


@final
class Fence:
    """A task's wait for the answer to a PING, on this network connection or a later one.

    Attributes:
        done: set when the answer has arrived, or when the connection is closed.
        has_passed: whether the answer has arrived.
    """

    __slots__ = ("done", "has_passed")

    def __init__(self) -> None:
        self.done: anyio.Event = anyio.Event()
        self.has_passed: bool = False

    def pass_(self) -> None:
        """Wake the task because the answer has arrived."""
        self.has_passed = True
        self.done.set()


@final
class _Batch:
    """The commands between two PINGs."""

    __slots__ = ("fence", "subscribed", "unsubscribed")

    def __init__(self) -> None:
        self.subscribed: list[NativeSubscription] = []
        self.unsubscribed: list[NativeSubscription] = []
        self.fence: Fence | None = None


@final
class Unconfirmed:
    """The SUBs, UNSUBs and PINGs of one network connection that the server has not confirmed."""

    __slots__ = ("_current", "_pings")

    def __init__(self) -> None:
        self._current = _Batch()
        self._pings: deque[_Batch] = deque()

    def add_subscribed(self, subscription: NativeSubscription) -> None:
        """Record a SUB."""
        self._current.subscribed.append(subscription)

    def add_unsubscribed(self, subscription: NativeSubscription) -> None:
        """Record an UNSUB."""
        self._current.unsubscribed.append(subscription)

    def add_ping(self, fence: Fence | None) -> None:
        """Record a PING, with the fence that its PONG passes if there is one."""
        self._current.fence = fence
        self._pings.append(self._current)
        self._current = _Batch()

    def confirm(self) -> list[NativeSubscription]:
        """Handle a PONG: pass the fence, and return the subscriptions for which no more messages will arrive."""
        if not self._pings:
            return []  # a PONG without a PING is harmless
        batch = self._pings.popleft()
        if batch.fence is not None:
            batch.fence.pass_()
        return batch.unsubscribed

    def pop_refused(self) -> NativeSubscription | None:
        """Return the subscription that an error about too many subscriptions is about, or ``None`` if there is none.

        The server does not name it. It has processed the SUBs up to the next PONG at most, and refuses the newest ones.
        """
        batch = self._pings[0] if self._pings else self._current
        return batch.subscribed.pop() if batch.subscribed else None

    def fences(self) -> Iterator[Fence]:
        """Return the fences that have not been passed, in order."""
        return (batch.fence for batch in self._pings if batch.fence is not None)
