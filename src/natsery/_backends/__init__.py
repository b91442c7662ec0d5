"""The few things that anyio does not offer, implemented for each event loop."""

from __future__ import annotations

from collections.abc import Callable

from anyio.lowlevel import current_token


def is_trio() -> bool:
    """Return whether trio is the running event loop."""
    return "trio" in current_token().backend_class.__module__


def caller_into_this_loop(function: Callable[[], object]) -> Callable[[], bool]:
    """Return a function that lets other threads call ``function`` in this loop; it returns false if the loop has ended."""
    if is_trio():
        from . import _trio

        return _trio.caller_into_this_loop(function)
    from . import _asyncio

    return _asyncio.caller_into_this_loop(function)


def loop_of_callers() -> Callable[[], object]:
    """Return a function that returns what is one and the same in all calls from one run of this event loop.

    It raises a `RuntimeError` where no event loop of this kind is running.
    """
    if is_trio():
        from . import _trio

        return _trio.loop_of_callers
    from . import _asyncio

    return _asyncio.loop_of_callers


def current_task() -> object:
    """Return the running task."""
    if is_trio():
        from . import _trio

        return _trio.current_task()
    from . import _asyncio

    return _asyncio.current_task()
