"""A bounded queue with the one task that works it off; filled from synchronous code."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar, final

from anyio.lowlevel import checkpoint

from .._condition_event import ConditionEvent
from .._wakeup import Wakeup, new_wakeup

ItemT = TypeVar("ItemT")


@final
class WorkQueue(Generic[ItemT]):
    """Items that one task works off in order.

    Args:
        consume: what is done with each item; must raise nothing but a cancellation of its task.
        limit: items that may wait.
        max_bytes: their bytes together, where ``put`` says them; one item may be larger.
        turn: items after which other tasks get their turn, if ``consume`` does not wait.
    """

    def __init__(
        self, consume: Callable[[ItemT], Awaitable[None]], limit: int, *, max_bytes: float = math.inf, turn: int = 1
    ) -> None:
        self._consume = consume
        self._turn = turn
        self._limit = limit
        self._max_bytes = max_bytes
        self._bytes = 0
        self._items: deque[tuple[ItemT, int]] = deque()
        self._wakeup: Wakeup | None = None
        self._is_busy = False
        self._empty = ConditionEvent(lambda: not self._items and not self._is_busy)

    def put(self, item: ItemT, size: int = 0) -> bool:
        """Add an item of so many bytes; return false, with nothing added, when the queue is full."""
        if len(self._items) >= self._limit or (self._items and self._bytes + size > self._max_bytes):
            return False
        self._items.append((item, size))
        self._bytes += size
        if self._wakeup is not None:
            self._wakeup.set()
        return True

    @property
    def is_waiting(self) -> bool:
        """Whether items are waiting, besides the one that is being worked off."""
        return bool(self._items)

    def clear(self) -> list[ItemT]:
        """Remove and return the items that are waiting."""
        items = [item for item, _ in self._items]
        self._items.clear()
        self._bytes = 0
        self._empty.check()
        return items

    async def run(self) -> None:
        """Work off the items until cancelled."""
        self._wakeup = new_wakeup()
        items = self._items
        done = 0
        while True:
            while items:
                self._is_busy = True
                item, size = items.popleft()
                self._bytes -= size
                try:
                    await self._consume(item)
                finally:
                    self._is_busy = False
                done += 1
                if done % self._turn == 0:
                    # A consumer that never waits must not keep other tasks from their turn.
                    await checkpoint()
            self._empty.check()
            await self._wakeup.wait()

    async def wait_empty(self) -> None:
        """Wait until every item so far has been worked off. Not a checkpoint if there is none."""
        await self._empty.wait()
