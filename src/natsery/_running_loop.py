"""The event loop that is running: its name, and the clock that deadlines are set by."""

from __future__ import annotations

from collections.abc import Callable

from anyio.lowlevel import current_token

from ._backends import is_trio


def loop_clock() -> Callable[[], float]:
    """Return the running event loop's ``anyio.current_time``, which may be called in that loop's callbacks, too."""
    return current_token().backend_class.current_time


def loop_name() -> str:
    """Return anyio's name of the running event loop, ``"trio"`` or ``"asyncio"``."""
    return "trio" if is_trio() else "asyncio"
