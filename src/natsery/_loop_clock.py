"""The clock of the event loop, which deadlines are set by."""

from __future__ import annotations

from collections.abc import Callable

from anyio.lowlevel import current_token


def loop_clock() -> Callable[[], float]:
    """Return the running event loop's ``anyio.current_time``, which may be called in that loop's callbacks, too."""
    return current_token().backend_class.current_time
