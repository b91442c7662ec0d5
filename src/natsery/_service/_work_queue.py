"""A bounded queue with the one task that empties it; filled from synchronous code."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar, final

import anyio

from .._wakeup import new_wakeup

ItemT = TypeVar("ItemT")


@final
class WorkQueue(Generic[ItemT]):
    """Items that one task works off in order.

    Args:
        consume: what is done with each item; must not raise an ``Exception``.
        limit: items that may wait.
    """

    def __init__(self, consume: Callable[[ItemT], Awaitable[None]], limit: int) -> None:
        self._consume = consume
        self._limit = limit
        self._items: deque[ItemT] = deque()
        self._wakeup = new_wakeup()
        self._is_busy = False
        self._empty: anyio.Event | None = None

    def put(self, item: ItemT) -> bool:
        """Add an item; false, and nothing added, when the queue is full."""
        if len(self._items) >= self._limit:
            return False
        self._items.append(item)
        self._wakeup.set()
        return True

    async def run(self) -> None:
        """Work off the items until cancelled."""
        items = self._items
        while True:
            while items:
                self._is_busy = True
                await self._consume(items.popleft())
                self._is_busy = False
                # A consumer that never waits must not keep the event loop to itself.
                await anyio.lowlevel.checkpoint()
            if self._empty is not None:
                self._empty.set()
                self._empty = None
            await self._wakeup.wait()

    async def wait_empty(self) -> None:
        """Wait until every item so far has been worked off. A checkpoint only when it has to wait."""
        while self._items or self._is_busy:
            if self._empty is None:
                self._empty = anyio.Event()
            await self._empty.wait()
