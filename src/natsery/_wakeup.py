"""A re-usable wake-up for one waiting task, in the event loop's own terms.

`anyio.Event` serves once and costs an object and two calls through its backend each time; this is on the path of every
request that finds its worker asleep.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ._backends import is_trio


class Wakeup(Protocol):
    """Wakes one task, any number of times."""

    async def wait(self) -> None:
        """Wait for ``set``; returns at once if it was called since the last wait. A checkpoint when it has to wait."""

    def set(self) -> None:
        """Wake the waiting task, or the next one to wait. From the same event loop only."""


def wakeup_class() -> Callable[[], Wakeup]:
    """Return the class of wake-ups for the running event loop; it may be called in that loop's callbacks, too."""
    if is_trio():
        from ._backends._trio import TrioWakeup

        return TrioWakeup
    from ._backends._asyncio import AsyncioWakeup

    return AsyncioWakeup


def new_wakeup() -> Wakeup:
    """Return a wake-up for the running event loop."""
    return wakeup_class()()
