"""The passage between the caller's event loop and an asyncio loop in another thread: batches, and never a wait."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar, final

from anyio.lowlevel import current_token

logger = logging.getLogger("natsery")

ItemT = TypeVar("ItemT")

BATCH = 1_000
"""Items that one wake-up hands over before other callbacks of the loop get their turn."""


class _ForeignCalls(Protocol):
    def call_soon(self, function: Callable[[], None]) -> bool: ...


def calls_into_this_loop() -> _ForeignCalls:
    """A way for other threads to have something called in the running event loop."""
    if "trio" in current_token().backend_class.__module__:
        from .._backends import _trio

        return _trio.ForeignCalls()
    from .._backends import _asyncio

    return _asyncio.ForeignCalls()


@final
class Lane(Generic[ItemT]):
    """A queue into another thread's loop, which is woken once for all that has gathered.

    ``put`` belongs to one thread and ``take`` is called in the other; neither waits for the other and no lock is held.

    Args:
        call_soon: has a function called in the loop of the receiving side; false when that loop has ended.
        take: handles one item over there.
    """

    def __init__(self, call_soon: Callable[[Callable[[], None]], Any], take: Callable[[ItemT], None]) -> None:
        self._call_soon = call_soon
        self._take = take
        self._items: deque[ItemT] = deque()
        self._is_scheduled = False

    def put(self, item: ItemT) -> None:
        """Send an item across."""
        self._items.append(item)
        if not self._is_scheduled:
            self._is_scheduled = True
            self._call_soon(self._run)

    def __len__(self) -> int:
        return len(self._items)

    def _run(self) -> None:
        # Cleared before the queue is looked at: an item put after the look finds it cleared and schedules again.
        self._is_scheduled = False
        items = self._items
        for _ in range(BATCH):
            if not items:
                return
            try:
                self._take(items.popleft())
            except Exception:
                # An exception that left this callback would bring the whole event loop down.
                logger.exception("an item from the other event loop could not be handled")
        if not self._is_scheduled:
            self._is_scheduled = True
            self._call_soon(self._run)
