"""Waiting until a condition holds that synchronous code changes, such as a queue that becomes empty."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import anyio


@final
class ConditionEvent:
    """Lets any number of tasks wait until a condition holds; an event is made only while one waits.

    Args:
        holds: the condition; must not wait or raise.
    """

    __slots__ = ("_event", "_holds")

    def __init__(self, holds: Callable[[], bool]) -> None:
        self._holds = holds
        self._event: anyio.Event | None = None

    async def wait(self) -> None:
        """Wait until the condition holds. Not a checkpoint if it does already."""
        while not self._holds():
            if self._event is None:
                self._event = anyio.Event()
            await self._event.wait()

    def check(self) -> None:
        """Wake the waiting tasks if the condition holds; called after each change that may make it hold."""
        if self._event is not None and self._holds():
            self._event.set()
            self._event = None
