"""For asyncio: a reusable wake-up, and a check from other threads whether the loop still runs."""

from __future__ import annotations

import asyncio
from asyncio import CancelledError as AsyncioCancelledError
from collections.abc import Callable
from typing import final

__all__ = ("AsyncioCancelledError", "AsyncioWakeup", "liveness")


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


def liveness() -> Callable[[], bool]:
    """Return a function for other threads that returns whether this event loop may still run."""
    loop = asyncio.get_running_loop()
    return lambda: not loop.is_closed()
