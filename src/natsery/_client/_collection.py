"""When a collection of replies is complete: decided from arrival times alone, without a clock or I/O."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, final

from .._checks import check_argument, count_rule, seconds_rule

DEFAULT_WAIT = 2.0
"""Seconds that a collection takes at most."""

_WAIT: Final = "write wait=..."
COLLECT_HINTS: Final = {"timeout": _WAIT, "max_wait": _WAIT}
"""What to write instead of options of other libraries."""


@final
class EndReason(StrEnum):
    """Why a collection of replies ended."""

    WAIT = "wait"
    """The total wait was over."""
    STALL = "stall"
    """Nothing came for the length of the stall, after at least one reply."""
    COUNT = "count"
    """As many replies came as were asked for."""
    SENTINEL = "sentinel"
    """The reply came that marks the end."""
    NO_RESPONDERS = "no responders"
    """There is no subscription to the subject."""


@final
class Collection:
    """The time in which replies are collected.

    Args:
        now: the time at the start, in seconds of any clock.
        wait: seconds in all, possibly infinite.
        stall: seconds without a reply, after the first one, that end it; ``None`` for no such end.
        count: replies that complete it; ``None`` for no such end.

    Attributes:
        wait: the same.
        ended: why it ended, ``None`` as long as it is open.

    Raises:
        TypeError, ValueError: an argument breaks a rule.
    """

    def __init__(self, now: float, *, wait: float, stall: float | None, count: int | None) -> None:
        check_argument("wait", wait, seconds_rule(infinite=True))
        if stall is not None:
            check_argument("stall", stall, seconds_rule(infinite=True))
        if count is not None:
            check_argument("count", count, count_rule)
        self.ended: EndReason | None = None
        self.wait = wait
        self._end = now + wait
        self._stall = stall
        self._stalls_at: float | None = None
        self._missing = count

    @property
    def deadline(self) -> float:
        """When it ends if nothing more comes."""
        return self._end if self._stalls_at is None else min(self._end, self._stalls_at)

    def accept(self, now: float) -> bool:
        """Note that a reply came; false if it came after the end."""
        self.expire(now)
        if self.ended is not None:
            return False
        if self._stall is not None:
            self._stalls_at = now + self._stall
        if self._missing is not None:
            self._missing -= 1
            if self._missing == 0:
                self.ended = EndReason.COUNT
        return True

    def expire(self, now: float) -> None:
        """End it if its time is over."""
        if self.ended is None and now >= self.deadline:
            self.ended = EndReason.WAIT if self.deadline == self._end else EndReason.STALL
