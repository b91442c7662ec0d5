"""The checkpoint rule for streams and senders: cancellation at each item, a turn for other tasks every so many."""

from __future__ import annotations

from typing import Final, final

from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

MAX_ITEMS: Final = 64
"""Items that a task takes or sends without waiting before other tasks get their turn."""

MAX_BYTES: Final = 64 * 1024
"""Bytes that it sends without waiting before they do."""


@final
class Turns:
    """Counts what is taken or sent without waiting."""

    __slots__ = ("_bytes", "_items")

    def __init__(self) -> None:
        self._items = 0
        self._bytes = 0

    async def checkpoint(self, size: int = 0) -> None:
        """Raise if the task is cancelled; give other tasks their turn if one is due. Then count an item of so many bytes."""
        if self._items >= MAX_ITEMS or self._bytes >= MAX_BYTES:
            self.restart()
            await checkpoint()
        else:
            await checkpoint_if_cancelled()
        self._items += 1
        self._bytes += size

    def restart(self) -> None:
        """Count from zero, because the task has waited."""
        self._items = self._bytes = 0
