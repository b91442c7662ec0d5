"""Watches Python files for changes; needs the extra ``reload`` (watchfiles)."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import anyio

from .._exit_codes import CommandError


def check_installed() -> None:
    """Check that watchfiles is installed.

    Raises:
        CommandError: it is not installed.
    """
    if importlib.util.find_spec("watchfiles") is None:
        raise CommandError("--reload needs watchfiles; run: pip install 'natsery[reload]'")


async def watch(folder: Path, on_change: Callable[[list[str]], None], stop: anyio.Event) -> None:
    """Call ``on_change`` with the names of changed Python files below a folder, until ``stop`` is set.

    The folder is watched from the first time that this task waits.
    """
    from watchfiles import PythonFilter, awatch

    # Cancellation does not reach the thread that waits for changes, so an event ends it.
    async for changes in awatch(folder, watch_filter=PythonFilter(), stop_event=stop):
        on_change(sorted({str(Path(path).relative_to(folder)) for _, path in changes}))
