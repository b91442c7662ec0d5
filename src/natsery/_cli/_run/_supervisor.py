"""Keeps workers up, hands signals on to them, and replaces them when files change."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import final

import anyio
from anyio.lowlevel import checkpoint

from ..._tasks import background_tasks
from .._connection_options._settings import Settings
from .._exit_codes import Exit, status_after
from .._output import tell
from ._multiprocess import WorkerProcesses
from ._reloading import watch


@final
class Supervisor:
    """Runs crews of workers, one after the other: a crew for each state of the files, or just one.

    Args:
        command: what starts a worker; its number follows.
        workers: how many there are to be; ``None`` for one that nobody has to tell from others.
        grace: the seconds that each of them has for its requests at the end.
        reload: whether to start a new crew when Python files change.
    """

    def __init__(self, command: Sequence[str], *, workers: int | None, grace: float, reload: bool) -> None:
        self._command = command
        self._workers = workers
        self._grace = grace
        self._reload = reload
        self._multiprocess: WorkerProcesses | None = None
        self._signals: list[signal.Signals] = []
        self._has_changed = False
        self._news = anyio.Event()

    async def run(self, settings: Settings, signals: AsyncIterator[signal.Signals]) -> Exit:
        """Supervise until a signal or a worker that is given up ends it, and return the exit status."""
        environment = {**os.environ, **settings.as_environment()}
        unwatched = anyio.Event()
        async with background_tasks() as tasks:
            tasks.start_soon(self._obey, signals, name="natsery run signals")
            if self._reload:
                tasks.start_soon(watch, Path.cwd(), self._note_change, unwatched, name="natsery run files")
                await checkpoint()  # from now on no change is missed: the task waits
            try:
                crew = await self._run_crew(environment)
                while self._reload and not self._signals:
                    crew = await self._run_crew(environment)
            finally:
                unwatched.set()
        if len(self._signals) > 1:
            return status_after(self._signals[1])
        # With ``--reload``, one that was given up was waited for to change, until the user had enough of that.
        return Exit.OK if crew.is_clean and (self._reload or not crew.given_up) else Exit.FAILED

    async def _run_crew(self, environment: dict[str, str]) -> WorkerProcesses:
        """Run workers until they are to be replaced by others, or to end; returns when that is to happen."""
        self._has_changed = False
        self._news = anyio.Event()
        crew = self._multiprocess = WorkerProcesses(
            self._command,
            environment,
            size=self._workers or 1,
            is_numbered=self._workers is not None,
            grace=self._grace,
        )
        if self._signals:
            crew.stop()
        await crew.run()
        self._multiprocess = None
        if self._reload and not self._signals and not self._has_changed:
            tell("waiting for a Python file to change")
            await self._news.wait()
        return crew

    async def _obey(self, signals: AsyncIterator[signal.Signals]) -> None:
        async for each in signals:
            self._signals.append(each)
            self._news.set()
            if self._multiprocess is None:
                continue
            if len(self._signals) == 1:
                self._multiprocess.stop()
            else:
                self._multiprocess.cut_off(each)

    def _note_change(self, names: list[str]) -> None:
        if self._signals:
            return
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        tell(f"{names[0]}{more} changed: reloading")
        self._has_changed = True
        self._news.set()
        if self._multiprocess is not None:
            self._multiprocess.stop()
