"""Runs workers in processes: starts them, restarts those that crash, and ends them together."""

from __future__ import annotations

import math
import signal
import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, final

import anyio
from anyio.abc import Process, TaskGroup, TaskStatus

from .._format import pluralize
from .._output import print_status
from ._channel import Channel
from ._progress import Progress
from ._restarts import GiveUp, Restarts, describe_exit
from ._systemd import Notifier

KILL_SECONDS = 10.0
"""How long after the grace a worker that has not ended is killed."""

ORPHAN_GRACE = 10.0
"""How much of the grace a worker gets at most when its supervisor ends without having stopped it."""


@final
class _WorkerProcess:
    """The current process of a worker."""

    def __init__(self, number: int, process: Process, channel: Channel) -> None:
        self.number = number
        self.is_replaced = False
        self.successor: _WorkerProcess | None = None
        self.settled = anyio.Event()
        """Set when it is ready, or has ended."""
        self.ended = anyio.Event()
        self.process = process
        self.location = ""
        self.ready_at = math.inf
        self.is_connected = True
        self.pending: int | None = None
        self.summary = ""
        self._channel = channel

    def stop(self) -> None:
        """Tell it to drain and end."""
        # Not with a signal: systemd, for example, sends one to the workers as well, and a second one would cut them off.
        self._channel.send(stop=True)
        if not self.location:
            # It has nothing to drain, and may not read the channel yet.
            self._send(signal.SIGTERM)

    def cut_off(self, number: signal.Signals) -> None:
        """Tell it to end at once, with the exit status for this signal."""
        self._channel.send(cut_off=number)

    def kill(self) -> None:
        """Kill its process."""
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            self.process.send_signal(number)


@final
class WorkerProcesses:
    """Workers of the same service. The first one starts alone, so that an error is printed once, not once for each.

    Args:
        command: the command of a worker; the worker's number is appended.
        environment: its environment variables.
        size: the number of workers.
        is_numbered: whether their numbers are printed.
        grace: the seconds that each of them has for its requests at the end.
        notifier: tells systemd.

    Attributes:
        given_up: whether a worker has been given up.
        is_clean: whether every worker that was told to end has drained.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        size: int,
        is_numbered: bool,
        grace: float,
        notifier: Notifier,
    ) -> None:
        self._notifier = notifier
        self._command = command
        self._environment = environment
        self._size = size
        self._is_numbered = is_numbered
        self._grace = grace
        self._tasks: TaskGroup | None = None
        self._workers: list[_WorkerProcess] = []
        self._wanted: dict[int, None] = {}
        self._exchange = anyio.Event()
        self._has_served = False
        self._was_complete = False
        self._stopping = anyio.Event()
        self._kill_scope = anyio.CancelScope()
        self._progress: Progress | None = None
        self.given_up = False
        self.is_clean = True

    async def run(self) -> None:
        """Keep the workers running until ``stop``, or until one is given up; return when all have ended."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._drain, name="natsery workers' drain")
            tasks.start_soon(self._exchange_wanted, name="natsery workers' exchange")
            async with anyio.create_task_group() as self._tasks:
                self._tasks.start_soon(self._keep_running, 1, name="natsery worker 1")
            tasks.cancel_scope.cancel("every worker has ended")
        if self._progress is not None:
            self._progress.end_line()

    def why_not_ready(self) -> str:
        """Say why no requests should come, ``""`` if they may: all workers are ready and connected."""
        ready = self._ready()
        if self._stopping.is_set():
            return "draining"
        numbers = {worker.number for worker in ready}
        if len(numbers) < self._size:
            return f"{len(numbers)} of {pluralize(self._size, 'worker')} ready" if self._is_numbered else "starting"
        away = [self._name(worker.number) for worker in ready if not worker.is_connected]
        return f"disconnected from the server: {', '.join(away)}" if away else ""

    def exchange(self, numbers: Iterable[int] | None = None) -> None:
        """Have workers replaced, one after another: each by a new one that is ready before the old one drains. All by default."""
        self._wanted |= dict.fromkeys(range(1, self._size + 1) if numbers is None else numbers)
        self._exchange.set()

    def stop(self) -> None:
        """Tell every worker to drain and end, and start no more. Later calls do nothing."""
        if self._stopping.is_set():
            return
        deadline = anyio.current_time() + self._grace
        self._progress = Progress(self._pending, deadline)
        self._kill_scope.deadline = deadline + KILL_SECONDS
        self._stopping.set()
        for worker in self._workers:
            worker.stop()

    def cut_off(self, number: signal.Signals) -> None:
        """Tell every worker to end at once, with the exit status for this signal. Call ``stop`` first."""
        now = anyio.current_time()
        self._kill_scope.deadline = min(self._kill_scope.deadline, now + KILL_SECONDS)
        if self._progress is not None:
            self._progress.end_line()
            self._progress.shorten(now)
            pending = self._pending()
            print_status("cutting off" + ("" if pending is None else f" {pluralize(pending, 'request')}"))
        for worker in self._workers:
            worker.cut_off(number)

    # One worker

    async def _keep_running(
        self, number: int, *, task_status: TaskStatus[_WorkerProcess | None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Start a worker, and start it again when it crashes; end when another one has taken its place."""
        restarts = Restarts()
        if self._stopping.is_set():
            task_status.started(None)
        is_first = True
        while not self._stopping.is_set():
            worker, status, served = await self._run_one(number, task_status if is_first else anyio.TASK_STATUS_IGNORED)
            is_first = False
            if self._stopping.is_set():
                self._report_end(worker, status)
                return
            if worker.is_replaced or await self._has_successor(worker):
                self._report_end(worker, status)
                return
            if self._predecessors(worker):
                return  # which go on in its place
            decision = restarts.decide(status, served, proven=self._has_served)
            if isinstance(decision, GiveUp):
                self._give_up(f"{self._name(number)} {describe_exit(status)} and is given up: {decision.reason}")
                return
            print_status(f"{self._name(number)} {describe_exit(status)}; it starts again in {decision.pause:g} s")
            with anyio.move_on_after(decision.pause):
                await self._stopping.wait()

    # Exchanges

    async def _exchange_wanted(self) -> None:
        """Exchange workers as they are wanted, one after another; until cancelled."""
        while True:
            await self._exchange.wait()
            self._exchange = anyio.Event()
            self._notifier.reloading("exchanging workers")
            count = 0
            while self._wanted and not self._stopping.is_set():
                number = next(iter(self._wanted))
                del self._wanted[number]
                count += await self._exchange_one(number)
            if not self._stopping.is_set():
                if count:
                    what = f"{pluralize(count, 'worker')} exchanged"
                    print_status(what if self._is_numbered else "the worker is exchanged")
                self._notifier.ready(self._status())

    async def _exchange_one(self, number: int) -> bool:
        """Start a new worker, and have the old one drain once it is ready; the old one stays if it does not become that."""
        old = next((worker for worker in self._workers if worker.number == number and worker.location), None)
        if old is None or self._tasks is None:
            return False  # it is being started anyway
        new: _WorkerProcess | None = await self._tasks.start(self._keep_running, number)
        if new is None:
            return False
        old.successor = new
        await new.settled.wait()
        if not new.location:
            if not self._stopping.is_set():
                name = self._name(number, article="")
                print_status(f"the new {name} did not come up; process {old.process.pid} goes on")
            return False
        if not old.ended.is_set() and not self._stopping.is_set():
            old.is_replaced = True
            old.stop()
            with anyio.move_on_after(self._grace + KILL_SECONDS):
                await old.ended.wait()
            if not old.ended.is_set():
                print_status(f"process {old.process.pid} of {self._name(number)} does not end; it is killed")
                old.kill()
                await old.ended.wait()
        return True

    async def _has_successor(self, worker: _WorkerProcess) -> bool:
        """Whether another process has taken the place of a worker that has crashed while it was to be exchanged."""
        if worker.successor is None:
            return False
        await worker.successor.settled.wait()
        return bool(worker.successor.location)

    def _predecessors(self, worker: _WorkerProcess) -> bool:
        """Whether it has ended before it was ready, and was to take the place of one that still serves."""
        return not worker.location and any(other.successor is worker for other in self._workers)

    # Processes

    async def _run_one(
        self, number: int, task_status: TaskStatus[_WorkerProcess | None]
    ) -> tuple[_WorkerProcess, int, float]:
        """Run a worker's process; return it, its exit status, and the seconds for which it was ready."""
        end, other_end = socket.socketpair()
        with Channel(end) as channel:
            with other_end:
                # In another session, so that a terminal's Ctrl-C reaches it through this supervisor alone.
                process = await anyio.open_process(
                    [*self._command, str(number if self._is_numbered else 0)],
                    stdin=other_end.fileno(),
                    stdout=None,
                    stderr=None,
                    env=self._environment,
                    start_new_session=True,
                )
            worker = _WorkerProcess(number, process, channel)
            self._workers.append(worker)
            task_status.started(worker)
            try:
                if self._stopping.is_set():
                    worker.stop()
                await self._follow(worker, channel)
            finally:
                self._workers.remove(worker)
                channel.close()
                # Protects the drain of a worker whose supervisor is cancelled; bounded, for it may not end.
                with anyio.move_on_after(min(self._grace, ORPHAN_GRACE) + KILL_SECONDS, shield=True):
                    await process.wait()
                worker.kill()
                worker.settled.set()
                worker.ended.set()
        assert process.returncode is not None
        return worker, process.returncode, max(0.0, anyio.current_time() - worker.ready_at)

    async def _follow(self, worker: _WorkerProcess, channel: Channel) -> None:
        """Handle a worker's messages until it has ended."""
        handle = partial(self._handle_message, worker)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(channel.receive, handle, name=f"natsery worker {worker.number} channel")
            await worker.process.wait()
            tasks.cancel_scope.cancel("the worker has ended")
        channel.receive_available(handle)

    def _handle_message(self, worker: _WorkerProcess, message: dict[str, Any]) -> None:
        match message:
            case {"ready": str(location)}:
                self._mark_ready(worker, location, message.get("instances"))
            case {"spent": True}:
                self.exchange([worker.number])
            case {"connected": bool(is_connected)}:
                worker.is_connected = is_connected
            case {"pending": int(pending)}:
                worker.pending = pending
                if self._progress is not None and not self._progress.has_been_shown:
                    self._progress.show()
            case {"stopped": str(summary)}:
                worker.summary = summary

    def _mark_ready(self, worker: _WorkerProcess, location: str, instances: object) -> None:
        worker.ready_at = anyio.current_time()
        worker.location = location
        worker.settled.set()
        if self._is_numbered:
            served = f": {instances}" if isinstance(instances, str) else ""
            where = f"process {worker.process.pid} on {socket.gethostname()}"
            print_status(f"{self._name(worker.number)} ready, {where}{served}")
        if not self._has_served:
            self._has_served = True
            assert self._tasks is not None
            for number in range(2, self._size + 1):
                self._tasks.start_soon(self._keep_running, number, name=f"natsery worker {number}")
        if not self._was_complete and len(self._ready()) == self._size:
            self._was_complete = True
            print_status(self._status())
            self._notifier.ready(self._status())

    def _status(self) -> str:
        count = f"{pluralize(self._size, 'worker')} " if self._is_numbered else ""
        return f"{count}ready {self._ready()[-1].location}" if self._ready() else f"{count}starting"

    def _ready(self) -> list[_WorkerProcess]:
        return [worker for worker in self._workers if worker.location]

    def _give_up(self, why: str) -> None:
        print_status(why)
        self.given_up = True
        self.stop()

    # The end

    async def _drain(self) -> None:
        """Show the progress of the drain, and kill workers that do not end in time."""
        await self._stopping.wait()
        assert self._progress is not None
        with self._kill_scope:
            await self._progress.run()
        self._progress.end_line()
        for worker in self._workers:
            print_status(f"{self._name(worker.number)} does not end; it is killed")
            worker.kill()

    def _pending(self) -> int | None:
        """Return the number of pending requests, ``None`` unless all workers that are ready have reported theirs."""
        counts = [worker.pending for worker in self._ready()]
        known = [pending for pending in counts if pending is not None]
        return sum(known) if known and len(known) == len(counts) else None

    def _report_end(self, worker: _WorkerProcess, status: int) -> None:
        # One that was not ready yet had nothing to drain, and may not have handled signals yet.
        if status != 0 and worker.location:
            self.is_clean = False
        if self._progress is not None:
            self._progress.end_line()
        summary = f": {worker.summary}" if worker.summary else ""
        process = f", process {worker.process.pid}," if worker.is_replaced else ""
        print_status(f"{self._name(worker.number)}{process} {describe_exit(status)}{summary}")

    def _name(self, number: int, *, article: str = "the ") -> str:
        return f"worker {number}" if self._is_numbered else f"{article}worker"
