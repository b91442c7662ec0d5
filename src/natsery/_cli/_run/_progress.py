"""Shows how many requests are still to be drained, and how much time is left for them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import final

import anyio

from .._format import pluralize
from .._output import is_status_rewritable, print_status

UPDATE_SECONDS = 0.5
"""How often the count is looked at."""


@final
class Progress:
    """A line on stderr about a drain: rewritten on a terminal, printed again after each change when piped.

    Args:
        pending: returns how many requests are pending, ``None`` while that is unknown.
        deadline: when the grace is over, on the event loop's clock.
    """

    def __init__(self, pending: Callable[[], int | None], deadline: float) -> None:
        self._pending = pending
        self._deadline = deadline
        self._shown: int | None = None
        self._is_rewriting = is_status_rewritable()
        self._is_line_open = False

    async def run(self) -> None:
        """Show it until cancelled."""
        while True:
            self.show()
            await anyio.sleep(UPDATE_SECONDS)

    def shorten(self, deadline: float) -> None:
        """Bring the deadline forward to an earlier time."""
        self._deadline = min(self._deadline, deadline)

    def show(self) -> None:
        """Show the current count if it has changed."""
        pending = self._pending()
        if pending is None or (pending == self._shown and not self._is_rewriting):
            return
        self._shown = pending
        text = f"draining: {pluralize(pending, 'request')} in flight{self._left()}"
        if not self._is_rewriting:
            print_status(text)
            return
        self._is_line_open = True
        print_status("", end=f"\r{text}\x1b[K")

    @property
    def has_been_shown(self) -> bool:
        """Whether anything has been shown yet."""
        return self._shown is not None

    def end_line(self) -> None:
        """End the line, so that whatever is printed next begins on a new one."""
        if self._is_line_open:
            self._is_line_open = False
            print_status("")

    def _left(self) -> str:
        left = self._deadline - anyio.current_time()
        return "" if math.isinf(left) else f", {max(0, math.ceil(left))} s left"
