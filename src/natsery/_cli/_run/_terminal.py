"""Tells a terminal's hang-up from a SIGHUP that somebody has sent to a daemon."""

from __future__ import annotations

import os
from typing import final


@final
class Terminal:
    """The terminal that this process was started in, if it was in one."""

    def __init__(self) -> None:
        self._was_there = _is_there()

    @property
    def is_gone(self) -> bool:
        """Whether it was there at the start, and has been closed since."""
        return self._was_there and not _is_there()


def _is_there() -> bool:
    # What this process's output goes to says nothing: it may be a pipe in a terminal, and a daemon has no terminal at all.
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
