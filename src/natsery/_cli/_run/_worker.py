"""Serves in this process: ready, asked to stop, drained."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Any, final

import anyio
from rich.cells import cell_len

from ..._config import ServiceConfig
from ..._native._native_connection import NativeConnection
from ..._service._serve import serve
from ..._service._service import Service
from ..._statistics import FailureCause
from ..._tasks import background_tasks
from .._connection_options._settings import Settings
from .._exit_codes import Exit, status_after
from .._format import counted
from .._output import tell
from ._channel import Channel
from ._progress import SECONDS_BETWEEN, Progress


@final
class Worker:
    """Serves configurations together on one connection, until a signal or the services themselves end it.

    Args:
        configs: what is served.
        grace: seconds that accepted requests get at the end.
        loop: what it runs on, in words.
        label: what begins the lines that it prints.
        channel: the line to the supervisor, which then tells of readiness and progress in its place.
        is_described: whether to print what is served.
    """

    def __init__(
        self,
        configs: Sequence[ServiceConfig],
        *,
        grace: float,
        loop: str,
        label: str = "",
        channel: Channel | None = None,
        is_described: bool = True,
    ) -> None:
        self._configs = configs
        self._grace = grace
        self._loop = loop
        self._label = label
        self._channel = channel
        self._is_described = is_described
        self._services: list[Service] = []
        self._is_ready = False
        self._is_orphan = False
        self._scope = anyio.CancelScope()
        self._stopping = anyio.Event()
        self._cut_off_by = 0
        self._progress: Progress | None = None
        self._ended_before = 0

    async def run(self, settings: Settings, signals: AsyncIterator[signal.Signals]) -> Exit:
        """Serve, and return the exit status.

        Raises:
            Exception: what `natsery.connect` and `natsery.serve` raise.
        """
        async with background_tasks() as tasks:
            tasks.start_soon(self._obey, signals, name="natsery run signals")
            tasks.start_soon(self._show_progress, name="natsery run progress")
            if self._channel is not None:
                tasks.start_soon(self._follow, self._channel, name="natsery run supervisor")
            try:
                with self._scope:
                    await self._serve(settings)
            finally:
                if self._progress is not None:
                    self._progress.end_line()
        if not self._is_ready:
            self._say("stopped before it was ready")
            return self._status(cut_off=0)
        return self._tell_end()

    async def _serve(self, settings: Settings) -> None:
        name = ", ".join(dict.fromkeys(config.name for config in self._configs))
        async with settings.connect(name) as nc, AsyncExitStack() as stack:
            for config in self._configs:
                self._services.append(await stack.enter_async_context(serve(nc, config, grace=self._grace)))
            self._is_ready = True
            self._tell_ready(nc)
            # Each service is a block around the next one, so any that ends takes this wait with it.
            await self._services[-1].wait_stopped()

    # Stopping

    async def _obey(self, signals: AsyncIterator[signal.Signals]) -> None:
        is_first = True
        async for each in signals:
            # With a supervisor, it is for that one to count: what stops it may send signals to its workers as well.
            if is_first or self._channel is not None:
                self._stop()
            else:
                self._cut_off(each)
            is_first = False

    async def _follow(self, channel: Channel) -> None:
        """Do what the supervisor says, and stop when it has gone, for whatever reason."""
        await channel.listen(self._hear)
        self._say("the supervisor has gone")
        self._is_orphan = True
        self._stop()

    def _hear(self, facts: dict[str, Any]) -> None:
        match facts:
            case {"stop": True}:
                self._stop()
            case {"cut_off": int(how)}:
                self._stop()
                self._cut_off(how)

    def _stop(self) -> None:
        if self._stopping.is_set():
            return
        if not self._is_ready:
            self._scope.cancel("asked to stop")
            return
        self._ended_before, _ = self._figures()
        self._progress = Progress(self._pending, anyio.current_time() + self._grace)
        self._stopping.set()
        for service in self._services:
            service.stop()

    def _cut_off(self, how: int) -> None:
        self._cut_off_by = self._cut_off_by or how
        if self._progress is not None:
            self._progress.end_line()
            self._progress.hurry(anyio.current_time())
            if self._channel is None:
                self._say(f"cutting off {counted(self._pending(), 'request')}")
        for service in self._services:
            service.stop(grace=0)

    async def _show_progress(self) -> None:
        await self._stopping.wait()
        if self._channel is None:
            assert self._progress is not None
            await self._progress.run()
        else:
            while True:
                self._channel.tell(pending=self._pending())
                await anyio.sleep(SECONDS_BETWEEN)

    def _pending(self) -> int:
        return sum(service.pending for service in self._services)

    def _figures(self) -> tuple[int, int]:
        """Requests that have ended, and those among them that a stop has cut off."""
        stats = [each for service in self._services for each in service.stats().endpoints]
        return sum(each.num_requests for each in stats), sum(each.failures.get(_CUT_OFF, 0) for each in stats)

    # What it says

    def _tell_ready(self, nc: NativeConnection) -> None:
        place = f"at {', '.join(nc.servers)} on {self._loop}"
        if self._is_described:
            for service in self._services:
                for line in description(service):
                    self._say(line)
        if self._channel is None:
            self._say(f"ready {place}")
        else:
            self._channel.tell(ready=place)

    def _tell_end(self) -> Exit:
        ended, cut_off = self._figures()
        parts = [f"{ended:,} in all"]
        if cut_off:
            parts.insert(0, f"{cut_off:,} cut off with 503")
        # A handler may have reset the figures meanwhile.
        drained = max(0, ended - cut_off - self._ended_before) if self._stopping.is_set() else 0
        parts.insert(0, f"{counted(drained, 'request')} drained")
        if self._channel is not None:
            self._channel.tell(stopped=", ".join(parts))
        if self._channel is None or self._is_orphan:
            self._say(f"stopped: {', '.join(parts)}")
        return self._status(cut_off)

    def _status(self, cut_off: int) -> Exit:
        if self._cut_off_by:
            return status_after(self._cut_off_by)
        return Exit.FAILED if cut_off else Exit.OK

    def _say(self, text: str) -> None:
        tell(self._label + text)


def description(service: Service) -> Iterator[str]:
    """What is served, line by line."""
    yield f"{service.name} {service.version}, instance {service.id}"
    rows = [("Endpoint", "Subject", "Queue group")]
    rows += [(each.name, each.subject, each.queue_group or "none") for each in service.endpoints]
    widths = [max(cell_len(row[column]) for row in rows) for column in range(3)]
    for row in rows if len(rows) > 1 else []:
        cells = (cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True))
        yield f"  {'  '.join(cells)}".rstrip()


def show_log(label: str) -> None:
    """Show natsery's log on stderr, reconnects included, unless the program has its own mind about logging."""
    logger = logging.getLogger("natsery")
    if logger.hasHandlers():
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"{label}%(message)s"))
    logger.addHandler(handler)
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)


_CUT_OFF = str(FailureCause.STOPPING)
