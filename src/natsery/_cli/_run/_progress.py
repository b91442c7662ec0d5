"""What is shown while requests are being finished: how many, and for how long yet."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import final

import anyio
from rich.console import Console

from .._format import counted
from .._output import tell

SECONDS_BETWEEN = 0.5
"""How often the figures are looked at."""


@final
class Progress:
    """A line on stderr that tells of a drain: rewritten on a terminal, printed anew for each change where it is piped.

    Args:
        pending: gives how many requests are not finished, ``None`` while nobody knows.
        deadline: when the grace is over, in the event loop's time.
    """

    def __init__(self, pending: Callable[[], int | None], deadline: float) -> None:
        self._pending = pending
        self._deadline = deadline
        self._shown: int | None = None
        console = Console(stderr=True)
        self._is_rewriting = console.is_terminal and not console.is_dumb_terminal
        self._is_line_open = False

    async def run(self) -> None:
        """Show it until cancelled."""
        while True:
            self.show()
            await anyio.sleep(SECONDS_BETWEEN)

    def hurry(self, deadline: float) -> None:
        """The grace is over sooner."""
        self._deadline = min(self._deadline, deadline)

    def show(self) -> None:
        """Show how it stands."""
        pending = self._pending()
        if pending is None or (pending == self._shown and not self._is_rewriting):
            return
        self._shown = pending
        text = f"draining: {counted(pending, 'request')} in flight{self._left()}"
        if not self._is_rewriting:
            tell(text)
            return
        self._is_line_open = True
        tell("", end=f"\r{text}\x1b[K")

    @property
    def has_been_shown(self) -> bool:
        """Whether anything has been shown yet."""
        return self._shown is not None

    def end_line(self) -> None:
        """Let what is printed next begin on a line of its own."""
        if self._is_line_open:
            self._is_line_open = False
            tell("")

    def _left(self) -> str:
        left = self._deadline - anyio.current_time()
        return "" if math.isinf(left) else f", {max(0, math.ceil(left))} s left"
