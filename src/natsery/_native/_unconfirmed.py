"""Commands that a server has not confirmed yet: each PONG confirms all that was sent before its PING."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final, final

import anyio

from ._subscriptions import NativeSubscription

MAX_UNSUBSCRIBED: Final = 256
"""Subscriptions that wait to be removed from which on a PING is worth sending for their sake."""


@final
class Fence:
    """A task's wait for the answer to a PING, on this network connection or, if nothing was lost with it, a later one.

    Args:
        messages: how many messages were sent before it, since the connection was created.

    Attributes:
        messages: the same.
        done: set when the answer has arrived, when a message before it may be lost, when the connection is closed, or when
            the task has been cancelled.
        has_passed: whether the answer has arrived.
        loss: why messages before it may be lost.
    """

    __slots__ = ("done", "has_passed", "loss", "messages")

    def __init__(self, messages: int) -> None:
        self.messages = messages
        self.done: anyio.Event = anyio.Event()
        self.has_passed: bool = False
        self.loss: Exception | None = None

    async def wait(self) -> None:
        """Wait until it is done. A checkpoint."""
        try:
            await self.done.wait()
        finally:
            self.done.set()  # the next network connection need not ask for a task that was cancelled

    def pass_(self) -> None:
        """Wake the task because the answer has arrived."""
        self.has_passed = True
        self.done.set()

    def fail(self, loss: Exception) -> None:
        """Wake the task because messages before it may be lost."""
        self.loss = loss
        self.done.set()


@final
class _Batch:
    """The commands between two PINGs."""

    __slots__ = ("fence", "messages", "subscribed", "unsubscribed")

    def __init__(self) -> None:
        self.subscribed: list[NativeSubscription] = []
        self.unsubscribed: list[NativeSubscription] = []
        self.fence: Fence | None = None
        self.messages = 0


@final
class Unconfirmed:
    """The SUBs, UNSUBs and PINGs of one network connection that the server has not confirmed.

    Args:
        messages: how many messages were sent before, over earlier network connections.

    Attributes:
        confirmed_messages: how many messages were sent before the last PING that was answered.
    """

    __slots__ = ("_current", "_pings", "confirmed_messages")

    def __init__(self, messages: int) -> None:
        self.confirmed_messages = messages
        self._current = _Batch()
        self._pings: deque[_Batch] = deque()

    def add_subscribed(self, subscription: NativeSubscription) -> None:
        """Record a SUB."""
        self._current.subscribed.append(subscription)

    def add_unsubscribed(self, subscription: NativeSubscription) -> None:
        """Record an UNSUB."""
        self._current.unsubscribed.append(subscription)

    @property
    def is_ping_due(self) -> bool:
        """Whether so many subscriptions wait to be removed that a PING should be sent."""
        return len(self._current.unsubscribed) >= MAX_UNSUBSCRIBED

    def add_ping(self, messages: int, fence: Fence | None) -> None:
        """Record a PING, how many messages were sent before it, and the fence that its PONG passes if there is one."""
        self._current.fence = fence
        self._current.messages = messages
        self._pings.append(self._current)
        self._current = _Batch()

    def confirm(self) -> list[NativeSubscription]:
        """Handle a PONG: pass the fence, and return the subscriptions for which no more messages will arrive."""
        if not self._pings:
            return []  # a PONG without a PING is harmless
        batch = self._pings.popleft()
        self.confirmed_messages = batch.messages
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
        """Return the fences that tasks wait for, in order."""
        return (batch.fence for batch in self._pings if batch.fence is not None and not batch.fence.done.is_set())
