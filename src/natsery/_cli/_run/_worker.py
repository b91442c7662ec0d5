"""Serves in this process until it is told to stop, and drains."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, TypeAlias, final

import anyio
from anyio.abc import TaskGroup
from rich.cells import cell_len

import natsery

from .._connection_options._settings import Settings
from .._exit_codes import Exit, status_after
from .._format import pluralize
from .._output import print_status
from ._channel import Channel
from ._progress import UPDATE_SECONDS, Progress
from ._request_limit import COUNT_SECONDS, RequestLimit
from ._systemd import Systemd
from ._waiting import connect_when_there
from ._watchdog import LAST_WORD_SECONDS, Watchdog, end_process

OpenConfigs: TypeAlias = "Callable[[natsery.abc.Connection], AbstractAsyncContextManager[list[natsery.ServiceConfig]]]"


OF_CONNECTING = (natsery.ConnectError, natsery.AuthorizationError, natsery.SecureConnectionError)
"""Errors of connecting to a server, which a program does that uses another one."""

SIGNAL_SECONDS = 1.0
"""How long a signal may take to be noticed."""


class ProgramError(Exception):
    """The program that is served could not reach something, such as a database or another server: the cause."""


@final
class Worker:
    """Serves configurations together on one connection, until a signal or the services themselves end it.

    Args:
        open_configs: yields the services to serve.
        name: the name of the connection.
        grace: seconds that accepted requests get at the end.
        loop: the event loop, in words.
        label: the beginning of each line that it prints.
        channel: the channel to the supervisor, which then reports readiness and progress in its place.
        is_described: whether to print the services and their endpoints.
        waits: whether to wait for a server that is not up yet.
        watchdog: seconds for which the event loop may stand still.
        request_limit: when the supervisor is to put another process in the place of this one.
    """

    def __init__(
        self,
        open_configs: OpenConfigs,
        *,
        name: str,
        grace: float,
        loop: str,
        label: str = "",
        channel: Channel | None = None,
        is_described: bool = True,
        waits: bool = False,
        watchdog: float | None = None,
        request_limit: RequestLimit | None = None,
    ) -> None:
        self._waits = waits
        self._watchdog = watchdog
        self._request_limit = request_limit
        # Under a supervisor, that one tells systemd.
        self._systemd = Systemd(os.environ if channel is None else {}, self._describe_status)
        self._tasks: TaskGroup | None = None
        self._nc: natsery.NativeConnection | None = None
        self._open_configs = open_configs
        self._name = name
        self._grace = grace
        self._loop = loop
        self._label = label
        self._channel = channel
        self._is_described = is_described
        self._services: list[natsery.Service] = []
        self._is_ready = False
        self._is_orphan = False
        self._scope = anyio.CancelScope()
        self._told_to_stop = anyio.Event()
        self._stopping = anyio.Event()
        self._cut_off_by = 0
        self._progress: Progress | None = None
        self._requests_before_stop = 0

    async def run(self, settings: Settings, signals: AsyncIterator[signal.Signals]) -> Exit:
        """Serve, and return the exit status.

        Raises:
            ProgramError: the program raised an ``OSError``, or could not connect to another server.
            Exception: what `natsery.connect` and `natsery.serve` raise.
        """
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            tasks.start_soon(self._handle_signals, signals, name="natsery run signals")
            tasks.start_soon(self._systemd.run, name="natsery run systemd")
            tasks.start_soon(self._show_progress, name="natsery run progress")
            if self._channel is not None:
                tasks.start_soon(self._follow_supervisor, self._channel, name="natsery run supervisor")
            try:
                with self._scope:
                    await self._serve(settings)
            except (KeyboardInterrupt, BaseExceptionGroup) as error:
                if not (_is_interrupt(error) and await self._is_told_to_stop()):  # noqa: ASYNC120  # over in any case
                    raise
            finally:
                if self._progress is not None:
                    self._progress.end_line()
            tasks.cancel_scope.cancel("the services have ended")
        if not self._is_ready:
            self._print("stopped before it was ready")
            return self._status(cut_off=0)
        return self._report_end()

    async def _serve(self, settings: Settings) -> None:
        connecting = (
            connect_when_there(settings, self._name, self._print) if self._waits else settings.connect(self._name)
        )
        async with connecting as nc:
            self._nc = nc
            try:
                await self._serve_on(nc)
            except (OSError, *OF_CONNECTING) as error:
                raise ProgramError from error

    async def _serve_on(self, nc: natsery.NativeConnection) -> None:
        async with self._open_configs(nc) as configs, AsyncExitStack() as stack:
            for config in configs:
                self._services.append(await stack.enter_async_context(natsery.serve(nc, config, grace=self._grace)))
            self._is_ready = True
            self._report_ready(nc)
            stack.callback(nc.add_listener(lambda _: self._report_connection(nc)))
            self._watch()
            # Each service is a block inside that of the one before, so any of them that ends cancels this wait.
            await self._services[-1].wait_stopped()

    def _watch(self) -> None:
        """Start what looks after services that are ready; until they have ended, the drain included."""
        assert self._tasks is not None
        if self._watchdog is not None:
            self._tasks.start_soon(Watchdog(self._watchdog, self._end_hung).run, name="natsery run watchdog")
        if self._request_limit is not None:
            self._tasks.start_soon(self._count_requests, self._request_limit, name="natsery run request limit")

    async def _count_requests(self, limit: RequestLimit) -> None:
        assert self._channel is not None
        while True:
            await anyio.sleep(COUNT_SECONDS)
            ended, _ = self._counts()
            if limit.is_reached(ended):
                self._channel.send(outdated=ended)

    def _end_hung(self, description: str) -> None:
        """End this process, whose event loop stands still; called in another thread."""
        if self._channel is None:
            end_process(lambda: self._print(description))
        self._channel.send(hung=description)
        # The supervisor kills it. One that is gone, or stands still itself, must not leave it a deaf member for ever.
        end_process(lambda: time.sleep(LAST_WORD_SECONDS))

    def why_not_ready(self) -> str:
        """Say why no requests should come, ``""`` if they may."""
        if self._stopping.is_set():
            return "draining"
        if not self._is_ready or self._nc is None:
            return "starting"
        return "" if self._nc.is_connected else "disconnected from the server"

    # Stopping

    async def _handle_signals(self, signals: AsyncIterator[signal.Signals]) -> None:
        is_first = True
        async for each in signals:
            if self._channel is not None and each == signal.SIGHUP:
                continue  # sent to the supervisor, too, which exchanges its workers one after another
            # A supervisor counts them itself: systemd, for example, sends each signal to the workers as well.
            if is_first or self._channel is not None:
                self._stop()
            else:
                self._cut_off(each)
            is_first = False

    async def _is_told_to_stop(self) -> bool:
        """Whether an interrupt is that of a process of the program, which Ctrl-C reaches as well, maybe before the signal."""
        with anyio.move_on_after(SIGNAL_SECONDS):
            await self._told_to_stop.wait()
        return self._told_to_stop.is_set()

    async def _follow_supervisor(self, channel: Channel) -> None:
        """Handle the supervisor's messages, and stop when it has ended, for whatever reason."""
        await channel.receive(self._handle_message)
        self._print("the supervisor has ended")
        self._is_orphan = True
        self._stop()

    def _handle_message(self, message: dict[str, Any]) -> None:
        match message:
            case {"stop": True}:
                self._stop()
            case {"cut_off": int(number)}:
                self._stop()
                self._cut_off(number)

    def _stop(self) -> None:
        self._told_to_stop.set()
        if self._stopping.is_set():
            return
        if not self._is_ready:
            self._scope.cancel("told to stop")
            return
        self._requests_before_stop, _ = self._counts()
        self._progress = Progress(self._pending, anyio.current_time() + self._grace)
        self._stopping.set()
        self._systemd.stopping()
        for service in self._services:
            service.stop()

    def _cut_off(self, number: int) -> None:
        self._cut_off_by = self._cut_off_by or number
        if self._progress is not None:
            self._progress.end_line()
            self._progress.shorten(anyio.current_time())
            if self._channel is None:
                self._print(f"cutting off {pluralize(self._pending(), 'request')}")
        for service in self._services:
            service.stop(grace=0)

    async def _show_progress(self) -> None:
        await self._stopping.wait()
        if self._channel is None:
            assert self._progress is not None
            await self._progress.run()
        else:
            while True:
                self._channel.send(pending=self._pending())
                await anyio.sleep(UPDATE_SECONDS)

    def _pending(self) -> int:
        return sum(service.pending for service in self._services)

    def _counts(self) -> tuple[int, int]:
        """Return how many requests have ended, and how many of them a stop has cut off."""
        stats = [each for service in self._services for each in service.stats().endpoints]
        return sum(each.num_requests for each in stats), sum(each.failures.get(_CUT_OFF, 0) for each in stats)

    # Output

    def _report_ready(self, nc: natsery.NativeConnection) -> None:
        location = f"at {', '.join(nc.servers)} on {self._loop}"
        if self._is_described:
            for service in self._services:
                for line in description(service):
                    self._print(line)
        elif len(self._services) > 1:
            for service in self._services:
                self._print(next(description(service)))
        if self._channel is None:
            self._print(f"ready {location}")
            self._systemd.ready()
        else:
            names = [f"{each.name} {each.version}" for each in self._services]
            self._channel.send(ready=location, services=names, instances=[each.id for each in self._services])

    def _describe_status(self) -> str:
        if not self._is_ready:
            return "starting"
        services = ", ".join(f"{each.name} {each.version}" for each in self._services)
        doing = "draining" if self._stopping.is_set() else f"serving {services}"
        return f"{doing}, {pluralize(self._pending(), 'request')} pending"

    def _report_connection(self, nc: natsery.NativeConnection) -> None:
        if self._channel is not None:
            self._channel.send(connected=nc.is_connected)

    def _report_end(self) -> Exit:
        ended, cut_off = self._counts()
        parts = [f"{ended:,} in all"]
        if cut_off:
            parts.insert(0, f"{cut_off:,} cut off with 503")
        # A handler may have reset the statistics meanwhile.
        drained = max(0, ended - cut_off - self._requests_before_stop) if self._stopping.is_set() else 0
        parts.insert(0, f"{pluralize(drained, 'request')} drained")
        if self._channel is not None:
            self._channel.send(stopped=", ".join(parts))
        if self._channel is None or self._is_orphan:
            self._print(f"stopped: {', '.join(parts)}")
        return self._status(cut_off)

    def _status(self, cut_off: int) -> Exit:
        if self._cut_off_by:
            return status_after(self._cut_off_by)
        return Exit.FAILED if cut_off else Exit.OK

    def _print(self, text: str) -> None:
        print_status(self._label + text)


def _is_interrupt(error: BaseException) -> bool:
    """Whether it is an interrupt, or several and nothing else."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(KeyboardInterrupt)[1] is None
    return isinstance(error, KeyboardInterrupt)


def description(service: natsery.Service) -> Iterator[str]:
    """Describe a service and its endpoints, line by line."""
    yield f"{service.name} {service.version}, instance {service.id}"
    rows = [("Endpoint", "Subject", "Queue group")]
    rows += [(each.name, each.subject, each.queue_group or "none") for each in service.endpoints]
    widths = [max(cell_len(row[column]) for row in rows) for column in range(3)]
    for row in rows if len(rows) > 1 else []:
        cells = (cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True))
        yield f"  {'  '.join(cells)}".rstrip()


_CUT_OFF = str(natsery.FailureCause.STOPPING)
