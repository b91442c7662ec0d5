"""Says when a worker has ended so many requests that another process is to take its place."""

from __future__ import annotations

import random
from typing import final

COUNT_SECONDS = 1.0
"""How often the requests are counted."""


@final
class RequestLimit:
    """The requests that a worker has ended, and how many they are to be.

    Args:
        requests: after how many it is reached, and each time after as many more.
        jitter: up to how many are added, a random number, so that workers that began together do not end together.
    """

    def __init__(self, requests: int, jitter: int = 0) -> None:
        self._limit = requests + random.randint(0, jitter)  # noqa: S311  # nobody gains by guessing it
        self._last = 0
        self._since = 0

    def is_reached(self, ended: int) -> bool:
        """Take the number of requests that have ended; return whether the limit has been reached since it was the last time."""
        # A handler may have reset the statistics meanwhile.
        self._since += ended - self._last if ended >= self._last else ended
        self._last = ended
        if self._since < self._limit:
            return False
        # If no other process comes up to take its place, it asks again later.
        self._since = 0
        return True
