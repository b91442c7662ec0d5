"""Keeps workers running, passes signals on to them, and replaces them on SIGHUP and when files change."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import final

import anyio
from anyio.lowlevel import checkpoint

from .._connection_options._settings import Settings
from .._exit_codes import Exit, status_after
from .._output import print_status
from ._multiprocess import WorkerProcesses
from ._reloading import watch
from ._systemd import Systemd, without_variables
from ._terminal import Terminal


@final
class Supervisor:
    """Runs the workers, and with ``reload`` others in their place after each change.

    Args:
        command: the command of a worker; the worker's number is appended.
        workers: the number of workers; ``None`` for a single one whose number is not printed.
        grace: the seconds that each of them has for its requests at the end.
        reload: whether to replace the workers when Python files change.
    """

    def __init__(self, command: Sequence[str], *, workers: int | None, grace: float, reload: bool) -> None:
        self._command = command
        self._workers = workers
        self._grace = grace
        self._reload = reload
        self._systemd = Systemd(os.environ, self._describe_status)
        self._terminal = Terminal()
        self._current: WorkerProcesses | None = None
        self._signals: list[signal.Signals] = []
        self._has_changed = False
        self._wakeup = anyio.Event()
        self._is_clean = True
        self._has_given_up = False

    def why_not_ready(self) -> str:
        """Say why no requests should come, ``""`` if they may."""
        return self._describe_status() if self._current is None or self._signals else self._current.why_not_ready()

    async def run(self, settings: Settings, signals: AsyncIterator[signal.Signals]) -> Exit:
        """Supervise until a signal or a worker that is given up ends it, and return the exit status."""
        environment = {**without_variables(os.environ), **settings.as_environment()}
        stop_watching = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._handle_signals, signals, name="natsery run signals")
            tasks.start_soon(self._systemd.run, name="natsery run systemd")
            if self._reload:
                tasks.start_soon(watch, Path.cwd(), self._on_change, stop_watching, name="natsery run files")
                await checkpoint()  # lets the task begin to watch, so that no change is missed
            try:
                await self._run_workers(environment)
                while self._reload and not self._signals:
                    await self._run_workers(environment)
            finally:
                stop_watching.set()
            tasks.cancel_scope.cancel("every worker has ended")
        if len(self._signals) > 1:
            return status_after(self._signals[1])
        # With ``--reload``, a worker that is given up is no failure: the user may change the files and go on.
        return Exit.OK if self._is_clean and (self._reload or not self._has_given_up) else Exit.FAILED

    async def _run_workers(self, environment: dict[str, str]) -> None:
        """Run workers until they have ended and it is time to replace them, or to end as well."""
        self._has_changed = False
        self._wakeup = anyio.Event()
        workers = self._current = WorkerProcesses(
            self._command,
            environment,
            size=self._workers or 1,
            is_numbered=self._workers is not None,
            grace=self._grace,
            on_ready=self._systemd.ready,
            on_give_up=self._on_give_up,
        )
        if self._signals:
            workers.stop()
        await workers.run()
        self._current = None
        self._is_clean, self._has_given_up = workers.is_clean, workers.given_up
        if self._reload and not self._signals and not self._has_changed:
            print_status("waiting for a Python file to change")
            await self._wakeup.wait()

    async def _handle_signals(self, signals: AsyncIterator[signal.Signals]) -> None:
        async for each in signals:
            if each == signal.SIGHUP and not self._terminal.is_gone:
                self._exchange()
                continue
            self._signals.append(each)
            self._wakeup.set()
            if len(self._signals) == 1:
                if self._current is not None:
                    self._current.stop()
                self._systemd.stopping()
            elif self._current is not None:
                self._current.cut_off(each)

    def _exchange(self) -> None:
        """Put new processes in the place of the workers'; start them if there are none, because the last ones were given up."""
        if self._signals:
            return
        if self._current is None:
            self._wakeup.set()
        elif not self._current.exchange():
            return
        self._systemd.reloading()

    def _on_give_up(self) -> None:
        # With ``--reload``, it goes on when the files change.
        if not self._reload:
            self._systemd.stopping()

    def _on_change(self, names: list[str]) -> None:
        if self._signals:
            return
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        print_status(f"{names[0]}{more} changed: reloading")
        self._has_changed = True
        self._systemd.reloading()
        self._wakeup.set()
        if self._current is not None:
            self._current.stop()

    def _describe_status(self) -> str:
        if self._current is not None:
            return self._current.describe_status()
        return "stopping" if self._signals else "waiting for a Python file to change"
