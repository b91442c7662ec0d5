"""The passage between the caller's event loop and an asyncio loop in another thread: batches, and never a wait."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar, final

from .._backends import is_trio

ItemT = TypeVar("ItemT")


class _ForeignCalls(Protocol):
    def call_soon(self, function: Callable[[], None]) -> bool: ...


def calls_into_this_loop() -> _ForeignCalls:
    """A way for other threads to have something called in the running event loop."""
    if is_trio():
        from .._backends import _trio

        return _trio.ForeignCalls()
    from .._backends import _asyncio

    return _asyncio.ForeignCalls()


@final
class Lane(Generic[ItemT]):
    """A queue into another thread's loop, whose one receiving task is woken once for all that has gathered.

    ``put`` belongs to one thread and ``gathered`` to the other; neither waits for the other and no lock is held.

    Args:
        wake: has the receiving task woken, from the sending thread.

    Attributes:
        put_bytes: what the sending thread, and it alone, counts of what it has sent.
        taken_bytes: what the receiving thread, and it alone, counts of what it has taken.
    """

    def __init__(self, wake: Callable[[], object]) -> None:
        self.put_bytes = 0
        self.taken_bytes = 0
        self._wake = wake
        self._items: deque[ItemT] = deque()
        self._is_woken = False

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: ItemT) -> None:
        """Send an item across."""
        self._items.append(item)
        if not self._is_woken:
            self._is_woken = True
            self._wake()

    def gathered(self) -> deque[ItemT]:
        """What has gathered, to be emptied now; what is added after the last look wakes the receiver again."""
        self._is_woken = False
        return self._items
