"""For trio: a reusable wake-up, protection from Ctrl-C, calls from other threads, and who is calling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import trio
from trio.lowlevel import checkpoint_if_cancelled, current_task
from trio.lowlevel import current_trio_token as loop_of_caller

__all__ = (
    "TrioWakeup",
    "caller_into_this_loop",
    "checkpoint_if_cancelled",
    "current_task",
    "loop_of_caller",
    "protect_from_interrupt",
)


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


def caller_into_this_loop(function: Callable[[], object]) -> Callable[[], bool]:
    """Return a function that lets other threads call ``function`` in this loop; it returns false if the loop has ended."""
    token = trio.lowlevel.current_trio_token()

    def call() -> bool:
        try:
            token.run_sync_soon(function)
        except (trio.RunFinishedError, OSError):  # an OSError if trio itself has crashed
            return False
        return True

    return call
