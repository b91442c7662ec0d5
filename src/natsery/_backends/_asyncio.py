"""asyncio's own means: a re-usable wake-up, and calls from other threads that do not block them."""

from __future__ import annotations

import asyncio
from asyncio import CancelledError as AsyncioCancelledError
from collections.abc import Callable
from typing import final

__all__ = ("AsyncioCancelledError", "AsyncioWakeup", "ForeignCalls")


@final
class AsyncioWakeup:
    """`natsery._wakeup.Wakeup` on an asyncio future."""

    __slots__ = ("_future", "_is_set", "_loop")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[None] | None = None
        self._is_set = False

    async def wait(self) -> None:
        """See `natsery._wakeup.Wakeup`."""
        if self._is_set:
            self._is_set = False
            return
        self._future = future = self._loop.create_future()
        try:
            await future
        finally:
            self._future = None

    def set(self) -> None:
        """See `natsery._wakeup.Wakeup`."""
        future = self._future
        if future is None:
            self._is_set = True
        elif not future.done():
            future.set_result(None)


class ForeignCalls:
    """Lets other threads have something called in this asyncio loop, without waiting for it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def call_soon(self, function: Callable[[], None]) -> bool:
        """Call it soon in the loop; false when the loop has ended."""
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:
            return False
        return True
