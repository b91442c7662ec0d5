"""A queue between two threads' event loops that wakes the receiver once for each batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar, final

ItemT = TypeVar("ItemT")

MESSAGE_BYTES: Final = 512
"""Counted for each message besides what it is on the wire, so that one bound on bytes holds for small messages too."""


@final
class ThreadQueue(Generic[ItemT]):
    """A queue from one thread to another, whose one receiving task is woken once for all that has gathered.

    ``put`` belongs to one thread and ``gathered`` to the other; neither waits for the other and no lock is held.

    Args:
        wake: wakes the receiving task; called in the sending thread.

    Attributes:
        put_bytes: what the sending thread, and it alone, counts of what it has sent.
        put_payload_bytes: the payloads among them.
        taken_bytes: what the receiving thread, and it alone, counts of what it has taken.
        is_woken: whether something was sent that the receiving thread has not begun to take.
        is_awaited: set by the sending thread while one of its tasks waits until more has been taken.
    """

    def __init__(self, wake: Callable[[], object]) -> None:
        self.put_bytes = 0
        self.put_payload_bytes = 0
        self.taken_bytes = 0
        self.is_woken = False
        self.is_awaited = False
        self._wake = wake
        self._items: deque[ItemT] = deque()

    def put(self, item: ItemT) -> None:
        """Send an item across."""
        self._items.append(item)
        if not self.is_woken:
            self.is_woken = True
            self._wake()

    def gathered(self) -> deque[ItemT]:
        """What has gathered, to be emptied now; what is added after the last look wakes the receiver again."""
        self.is_woken = False
        return self._items
