"""Notices that Python files have changed; needs the extra ``reload`` (watchfiles)."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import anyio

from .._exit_codes import CommandError


def check_installed() -> None:
    """Refuse to go on without watchfiles.

    Raises:
        CommandError: it is not installed.
    """
    if importlib.util.find_spec("watchfiles") is None:
        raise CommandError("--reload needs watchfiles; run: pip install 'natsery[reload]'")


async def watch(folder: Path, changed: Callable[[list[str]], None], ended: anyio.Event) -> None:
    """Call ``changed`` with the names of the Python files below a folder that have changed, until ``ended`` is set.

    The folder is being watched from the first time that this task waits.
    """
    from watchfiles import PythonFilter, awatch

    # The thread that waits for changes does not hear of a cancellation, so it is told with an event.
    async for changes in awatch(folder, watch_filter=PythonFilter(), stop_event=ended):
        changed(sorted({str(Path(path).relative_to(folder)) for _, path in changes}))
