"""A reusable wake-up for one waiting task, in the event loop's own terms.

`anyio.Event` serves once and costs an object and two calls through its backend each time; this is on the path of every
request that finds its worker asleep.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

from ._backends import is_trio


class Wakeup(Protocol):
    """Wakes one task, any number of times."""

    async def wait(self) -> None:
        """Wait for ``set``; returns at once if it was called since the last wait. A checkpoint when it has to wait."""

    def set(self) -> None:
        """Wake the waiting task, or the next one to wait. From the same event loop only."""


class Wakeups(Protocol):
    """Makes wake-ups for tasks that handle messages, and runs these tasks."""

    def new_wakeup(self) -> Wakeup:
        """Return a wake-up; may be called in callbacks of the event loop, too."""
        ...

    def run(self, work: Coroutine[Any, Any, None], wakeup: Wakeup) -> Awaitable[None]:
        """Return what runs a coroutine that waits with this wake-up."""
        ...


class PlainWakeups:
    """The `Wakeups` of the running event loop, for tasks that are woken in its next turn."""

    def __init__(self) -> None:
        self.new_wakeup: Callable[[], Wakeup] = wakeup_class()

    def run(self, work: Coroutine[Any, Any, None], wakeup: Wakeup) -> Awaitable[None]:  # noqa: ARG002
        """See `Wakeups`."""
        return work


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
