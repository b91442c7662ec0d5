"""For trio: a reusable wake-up, protection from Ctrl-C, and a check from other threads whether the loop still runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import trio

wait_readable = trio.lowlevel.wait_readable


@final
class TrioWakeup:
    """`natsery._wakeup.Wakeup` on trio's scheduler."""

    __slots__ = ("_is_set", "_task")

    def __init__(self) -> None:
        self._task: trio.lowlevel.Task | None = None
        self._is_set = False

    async def wait(self) -> None:
        """See `natsery._wakeup.Wakeup`."""
        if self._is_set:
            self._is_set = False
            return
        self._task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._abort)

    def _abort(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED

    def set(self) -> None:
        """See `natsery._wakeup.Wakeup`."""
        task = self._task
        if task is None:
            self._is_set = True
        else:
            self._task = None
            trio.lowlevel.reschedule(task)


def protect_from_interrupt(function: Callable[..., Any]) -> None:
    """Make Ctrl-C raise in the main task instead of in this function or in what it calls."""
    trio.lowlevel.enable_ki_protection(function)


def liveness() -> Callable[[], bool]:
    """Return a function for other threads that returns whether this event loop still runs; it wakes the loop to find out."""
    token = trio.lowlevel.current_trio_token()

    def runs() -> bool:
        try:
            token.run_sync_soon(lambda: None)
        except (trio.RunFinishedError, OSError):  # an OSError if trio itself has crashed
            return False
        return True

    return runs
