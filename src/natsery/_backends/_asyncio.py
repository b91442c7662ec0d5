"""For asyncio: a reusable wake-up, calls from other threads, and who is calling."""

from __future__ import annotations

import asyncio
import sys
from asyncio import CancelledError as AsyncioCancelledError
from asyncio import current_task
from asyncio import get_running_loop as loop_of_caller
from collections.abc import Callable, Coroutine
from typing import Any, Final, final
from weakref import ref

__all__ = (
    "AsyncioCancelledError",
    "AsyncioWakeup",
    "bounded",
    "caller_into_this_loop",
    "current_task",
    "loop_of_caller",
    "quick_checkpoint_if_cancelled",
)

_KNOWN_SCOPE: Final = ("_cancel_called", "_shield", "_parent_scope")
"""Attributes of anyio's cancel scopes that say whether they are cancelled."""

_MAX_TURNS: Final = 5
"""Turns of the event loop in which a cancellation comes, if it comes."""


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


def caller_into_this_loop(function: Callable[[], object]) -> Callable[[], bool]:
    """Return a function that lets other threads call ``function`` in this loop; it returns false if the loop has ended."""
    loop = asyncio.get_running_loop()

    def call() -> bool:
        try:
            loop.call_soon_threadsafe(function)
        except RuntimeError:
            return False
        return True

    return call


def quick_checkpoint_if_cancelled(
    checkpoint: Callable[[], Coroutine[Any, Any, None]],
) -> Callable[[], Coroutine[Any, Any, None]]:
    """Return anyio's ``checkpoint_if_cancelled``, made quicker where anyio keeps tasks and scopes in the expected way.

    It is on the way of every message that is sent or received, and anyio's takes half as long as all the rest.
    """
    module = sys.modules[checkpoint.__module__]
    states = getattr(getattr(module, "_task_states", None), "data", None)
    scope_class = getattr(module, "CancelScope", object)
    if not isinstance(states, dict) or not all(hasattr(scope_class(), name) for name in _KNOWN_SCOPE):
        return checkpoint

    loop = asyncio.get_running_loop()

    async def checkpoint_if_cancelled() -> None:
        # To look for the running loop takes a system call.
        task = current_task(loop)
        state = None if task is None else states.get(ref(task))
        scope = None if state is None else state.cancel_scope
        while scope is not None:
            if scope._cancel_called:
                await checkpoint()  # raises, since the task is cancelled
            if scope._shield:
                return
            scope = scope._parent_scope

    return checkpoint_if_cancelled


def bounded(checkpoint: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], Coroutine[Any, Any, None]]:
    """Return anyio's ``checkpoint_if_cancelled``, made to end where anyio never delivers the cancellation that it waits for.

    That is so in what a thread has this loop run, with ``anyio.from_thread.run``, after the scope around the thread was
    cancelled: anyio turns round and round there.
    """

    async def checkpoint_if_cancelled() -> None:
        waiting = checkpoint()
        try:
            waiting.send(None)
        except StopIteration:
            return
        waiting.close()
        for _ in range(_MAX_TURNS):
            await asyncio.sleep(0)
        raise AsyncioCancelledError

    return checkpoint_if_cancelled
