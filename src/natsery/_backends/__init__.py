"""The few things that anyio does not offer, implemented for each event loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from anyio.lowlevel import current_token

if TYPE_CHECKING:
    from ._handover import Handover


def is_trio() -> bool:
    """Return whether trio is the running event loop."""
    return "trio" in current_token().backend_class.__module__


def new_handover() -> Handover:
    """Return the hand-over of a connection in this event loop."""
    if is_trio():
        from ._trio_handover import TrioHandover

        return TrioHandover()
    from ._asyncio_handover import AsyncioHandover, LoopHandover, turns_are_cheap

    return LoopHandover() if turns_are_cheap() else AsyncioHandover()


def caller_into_this_loop(function: Callable[[], object]) -> Callable[[], bool]:
    """Return a function that lets other threads call ``function`` in this loop; it returns false if the loop has ended."""
    if is_trio():
        from . import _trio

        return _trio.caller_into_this_loop(function)
    from . import _asyncio

    return _asyncio.caller_into_this_loop(function)


def functions_of_loop() -> tuple[Callable[[], object], Callable[[], Awaitable[None]]]:
    """Return two functions for callers in this event loop.

    The first returns what is one and the same in all calls from one run of this event loop, and raises a `RuntimeError` where
    no event loop of this kind is running. The second is anyio's ``checkpoint_if_cancelled``, which needs not find out first
    which event loop is running.
    """
    if is_trio():
        from . import _trio

        return _trio.loop_of_caller, _trio.checkpoint_if_cancelled
    from . import _asyncio

    checkpoint_if_cancelled = current_token().backend_class.checkpoint_if_cancelled
    return _asyncio.loop_of_caller, _asyncio.quick_checkpoint_if_cancelled(checkpoint_if_cancelled)


def checkpoint_for_threads() -> Callable[[], Awaitable[None]]:
    """Return the second of these for what threads have this event loop run with ``anyio.from_thread.run``."""
    if is_trio():
        from . import _trio

        return _trio.checkpoint_if_cancelled
    from . import _asyncio

    return _asyncio.bounded(current_token().backend_class.checkpoint_if_cancelled)


def current_task() -> object:
    """Return the running task."""
    if is_trio():
        from . import _trio

        return _trio.current_task()
    from . import _asyncio

    return _asyncio.current_task()
