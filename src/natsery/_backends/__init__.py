"""The few things that anyio has no way to do, once for each event loop."""

from __future__ import annotations

from collections.abc import Callable

from anyio.lowlevel import current_token


def is_trio() -> bool:
    """Whether the running event loop is trio's."""
    return "trio" in current_token().backend_class.__module__


def caller_into_this_loop(function: Callable[[], object]) -> Callable[[], bool]:
    """What other threads call to have ``function`` called in the running event loop; false if that has ended."""
    if is_trio():
        from . import _trio

        return _trio.caller_into_this_loop(function)
    from . import _asyncio

    return _asyncio.caller_into_this_loop(function)
