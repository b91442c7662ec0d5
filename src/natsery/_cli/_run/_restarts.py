"""Decides whether a worker that has crashed is started again, and when."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import final

from .._exit_codes import Exit

FIRST_PAUSE = 0.1
"""Seconds before the first restart; it doubles with each crash in a row."""

LONGEST_PAUSE = 10.0
"""Seconds that the pause grows to at most."""

STEADY_SECONDS = 5.0
"""Seconds of service after which a crash counts as the first one again."""

MAX_CRASHES = 5
"""Crashes in a row after which a worker is given up."""


@final
@dataclass(frozen=True)
class Restart:
    """The worker starts again after a pause, in seconds."""

    pause: float


@final
@dataclass(frozen=True)
class GiveUp:
    """The worker does not start again."""

    reason: str


@final
class Restarts:
    """The crashes of one worker in a row."""

    def __init__(self) -> None:
        self._crashes = 0

    def decide(self, status: int, served: float, *, proven: bool) -> Restart | GiveUp:
        """Decide about a worker that has ended.

        Args:
            status: its exit status, or the negative number of the signal that killed it.
            served: the seconds for which it was ready; 0 if it never was.
            proven: whether any worker of the same service has been ready, so that the service can be served.
        """
        if status == Exit.USAGE and not proven:
            return GiveUp("the service cannot be served as it is")
        self._crashes = 1 if served >= STEADY_SECONDS else self._crashes + 1
        if self._crashes >= MAX_CRASHES:
            return GiveUp(f"it ended {self._crashes} times in a row without having served for {STEADY_SECONDS:g} s")
        return Restart(min(FIRST_PAUSE * 2 ** (self._crashes - 1), LONGEST_PAUSE))


def describe_exit(status: int) -> str:
    """Say how a process ended: with an exit status, or by a signal, whose number is negative then."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"
