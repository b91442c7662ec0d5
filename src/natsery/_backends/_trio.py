"""trio's own means: a re-usable wake-up, protection from Ctrl-C, calls from other threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import trio


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
    """Have Ctrl-C raise in the main task instead of in the middle of this function or of what it calls."""
    trio.lowlevel.enable_ki_protection(function)


class ForeignCalls:
    """Lets other threads have something called in this trio loop, without waiting for it."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()

    def call_soon(self, function: Callable[[], None]) -> bool:
        """Call it soon in the loop; false when the loop has ended."""
        try:
            self._token.run_sync_soon(function, idempotent=True)
        except trio.RunFinishedError:
            return False
        return True
