"""The checkpoint rule for streams and senders: cancellation at each item, a turn for other tasks every so many."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, final

from anyio.lowlevel import checkpoint

from ._home import Home

MAX_ITEMS: Final = 64
"""Items that a task takes or sends without waiting before other tasks get their turn."""

MAX_BYTES: Final = 64 * 1024
"""Bytes that it sends without waiting before they do."""


@final
class Turns:
    """Counts what is taken or sent without waiting.

    Args:
        home: where that may be done, by default where this is made.

    Attributes:
        checkpoint_if_cancelled: as `anyio.lowlevel.checkpoint_if_cancelled`, without a search for the event loop.
    """

    __slots__ = ("_bytes", "_home", "_items", "checkpoint_if_cancelled")

    def __init__(self, home: Home | None = None) -> None:
        self._items = 0
        self._bytes = 0
        self._home = home or Home()
        self.checkpoint_if_cancelled: Callable[[], Awaitable[None]] = self._home.checkpoint_if_cancelled

    async def checkpoint(self, size: int = 0) -> None:
        """Raise if the task is cancelled; give other tasks their turn if one is due. Then count an item of so many bytes.

        Raises:
            RuntimeError: the caller is in another event loop.
        """
        if self.is_due(size):
            await checkpoint()
        else:
            await self.checkpoint_if_cancelled()

    def is_due(self, size: int = 0) -> bool:
        """Count an item of so many bytes, and return whether other tasks are to get their turn before it.

        The caller then awaits ``checkpoint``, and ``checkpoint_if_cancelled`` otherwise.

        Raises:
            RuntimeError: the caller is in another event loop.
        """
        home = self._home
        # `Home.check`, written out: a call less for each item.
        try:
            here = home.loop_of_caller()
        except RuntimeError:
            here = None
        if here is not home.loop:
            home.refuse()
        if self._items >= MAX_ITEMS or self._bytes >= MAX_BYTES:
            self._items, self._bytes = 1, size
            return True
        self._items += 1
        self._bytes += size
        return False

    def restart(self) -> None:
        """Count from zero, because the task has waited."""
        self._items = self._bytes = 0
