"""Decides what becomes of a worker that ended although nobody had asked it to."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import final

from .._exit_codes import Exit

FIRST_PAUSE = 0.1
"""Seconds before the first restart; they double with each failure in a row."""

LONGEST_PAUSE = 10.0
"""Seconds that the pause grows to."""

STEADY_SECONDS = 5.0
"""A worker that served for so long was well: what comes then is a first failure again."""

MAX_FAILURES = 5
"""Failures in a row after which a worker is given up."""


@final
@dataclass(frozen=True)
class Restart:
    """It is to start again, after so many seconds."""

    pause: float


@final
@dataclass(frozen=True)
class GiveUp:
    """It is not to start again, for this reason."""

    reason: str


@final
class Restarts:
    """The failures of one worker in a row."""

    def __init__(self) -> None:
        self._failures = 0

    def decide(self, status: int, served: float, *, proven: bool) -> Restart | GiveUp:
        """What is to be done.

        Args:
            status: how its process ended: an exit status, or a signal's number below zero.
            served: the seconds for which it was ready; 0 if it never was.
            proven: whether any worker of the same service has been ready, so that it can be served in principle.
        """
        if status == Exit.USAGE and not proven:
            return GiveUp("the service cannot be served as it is")
        self._failures = 1 if served >= STEADY_SECONDS else self._failures + 1
        if self._failures >= MAX_FAILURES:
            return GiveUp(f"it ended {self._failures} times in a row without having served for {STEADY_SECONDS:g} s")
        return Restart(min(FIRST_PAUSE * 2 ** (self._failures - 1), LONGEST_PAUSE))


def ending(status: int) -> str:
    """How a process ended, as one says it: an exit status, or a signal's number below zero."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"
