"""Runs workers in processes: starts them, restarts those that crash, exchanges them, and ends them together."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import anyio
from anyio.abc import TaskGroup

from .._format import pluralize
from .._output import print_status
from ._progress import Progress
from ._restarts import GiveUp, Restarts, describe_exit
from ._worker_process import WorkerProcess

KILL_SECONDS = 10.0
"""How long after the grace a worker that has not ended is killed."""

ORPHAN_GRACE = 10.0
"""How much of the grace a worker gets at most when its supervisor ends without having stopped it."""

START_SECONDS = 60.0
"""How long a worker that is to take another's place may take to be ready."""


def _nothing() -> None:
    pass


@final
class WorkerProcesses:
    """Workers of the same service. The first one starts alone, so that an error is printed once, not once for each.

    Args:
        command: the command of a worker; the worker's number is appended.
        environment: its environment variables.
        size: the number of workers.
        is_numbered: whether their numbers are printed.
        grace: the seconds that each of them has for its requests at the end.
        on_ready: called when all workers are ready for the first time, and after each exchange of all of them.
        on_give_up: called when a worker is given up and the others begin to drain.

    Attributes:
        services: the services that they serve, with their versions.
        given_up: whether a worker has been given up.
        is_clean: whether every worker that was told to end by ``stop`` has drained.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        size: int,
        is_numbered: bool,
        grace: float,
        on_ready: Callable[[], None] = _nothing,
        on_give_up: Callable[[], None] = _nothing,
    ) -> None:
        self._command = command
        self._environment = environment
        self._size = size
        self._is_numbered = is_numbered
        self._grace = grace
        self._on_ready = on_ready
        self._on_give_up = on_give_up
        self._tasks: TaskGroup | None = None
        self._workers: dict[int, WorkerProcess] = {}
        self._processes: list[WorkerProcess] = []
        self._has_served = False
        self._was_complete = False
        self._outdated: dict[int, float] = {}
        self._remaining: set[int] = set()
        self._is_exchanging_all = False
        self._has_outdated = anyio.Event()
        self._stopping = anyio.Event()
        self._kill_scope = anyio.CancelScope()
        self._progress: Progress | None = None
        self.services: list[str] = []
        self.given_up = False
        self.is_clean = True

    async def run(self) -> None:
        """Keep the workers running until ``stop``, or until one is given up; return when all have ended."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._drain, name="natsery workers' drain")
            tasks.start_soon(self._exchange_outdated, name="natsery workers' exchange")
            async with anyio.create_task_group() as self._tasks:
                self._tasks.start_soon(self._keep_running, 1, name="natsery worker 1")
            tasks.cancel_scope.cancel("every worker has ended")
        if self._progress is not None:
            self._progress.end_line()

    def why_not_ready(self) -> str:
        """Say why no requests should come, ``""`` if they may: all workers are ready and connected."""
        if self._stopping.is_set():
            return "draining"
        if len(self._ready_numbers()) < self._size:
            return self.describe_status()
        away = [self._name(worker.number) for worker in self._ready() if not worker.is_connected]
        return f"disconnected from the server: {', '.join(away)}" if away else ""

    def stop(self) -> None:
        """Tell every worker to drain and end, and start no more. Later calls do nothing."""
        if self._stopping.is_set():
            return
        deadline = anyio.current_time() + self._grace
        self._progress = Progress(lambda: self.pending, deadline)
        self._kill_scope.deadline = deadline + KILL_SECONDS
        self._stopping.set()
        for worker in self._processes:
            worker.stop()

    def cut_off(self, number: signal.Signals) -> None:
        """Tell every worker to end at once, with the exit status for this signal. Call ``stop`` first."""
        now = anyio.current_time()
        self._kill_scope.deadline = min(self._kill_scope.deadline, now + KILL_SECONDS)
        if self._progress is not None:
            self._progress.end_line()
            self._progress.shorten(now)
            pending = self.pending
            print_status("cutting off" + ("" if pending is None else f" {pluralize(pending, 'request')}"))
        for worker in self._processes:
            worker.cut_off(number)

    def exchange(self) -> bool:
        """Put a new process in the place of each worker's, one after another: it is ready before the old one drains.

        Another call while that is going on adds those that have been exchanged already. Returns
        false if the workers are ending.
        """
        if self._stopping.is_set():
            return False
        print_status(f"exchanging {self._all()}")
        self._is_exchanging_all = True
        for number in range(1, self._size + 1):
            self._remaining.add(number)
            self._mark_outdated(number, anyio.current_time())
        return True

    def describe_status(self) -> str:
        """Say what the workers are doing."""
        if self._stopping.is_set():
            pending = self.pending
            return "draining" + ("" if pending is None else f", {pluralize(pending, 'request')} pending")
        doing = "starting" if not self._was_complete else "exchanging" if self._is_exchanging_all else "serving"
        services = f" {', '.join(self.services)}" if self.services else ""
        return f"{doing}{services}, {len(self._ready_numbers())} of {pluralize(self._size, 'worker')} ready"

    @property
    def pending(self) -> int | None:
        """The number of pending requests, ``None`` unless all workers that are ready have reported theirs."""
        counts = [worker.pending for worker in self._ready()]
        known = [pending for pending in counts if pending is not None]
        return sum(known) if known and len(known) == len(counts) else None

    # One worker

    async def _keep_running(self, number: int) -> None:
        """Start a worker, and start it again when it crashes."""
        restarts = Restarts()
        while not self._stopping.is_set():
            worker = self._workers.get(number)
            if worker is None or worker.ended.is_set():
                worker = self._workers[number] = self._start(number)
            await worker.ended.wait()
            if self._stopping.is_set() or worker is not self._workers[number]:
                continue
            served = max(0.0, anyio.current_time() - worker.ready_at)
            decision = restarts.decide(worker.status, served, proven=self._has_served)
            how = f"{self._name(number)} {describe_exit(worker.status)}"
            if isinstance(decision, GiveUp):
                self._give_up(f"{how} and is given up: {decision.reason}")
                return
            print_status(f"{how}; it starts again in {decision.pause:g} s")
            with anyio.move_on_after(decision.pause):
                await self._stopping.wait()

    def _start(self, number: int) -> WorkerProcess:
        assert self._tasks is not None
        worker = WorkerProcess(number)
        self._processes.append(worker)
        self._tasks.start_soon(self._run, worker, name=f"natsery worker {number} process")
        return worker

    async def _run(self, worker: WorkerProcess) -> None:
        """Run a process until it has ended."""
        command = [*self._command, str(worker.number if self._is_numbered else 0)]
        patience = min(self._grace, ORPHAN_GRACE) + KILL_SECONDS
        try:
            await worker.run(command, self._environment, self._handle_message, patience)
        finally:
            self._processes.remove(worker)
        if worker.is_told:
            self._report_end(worker)

    def _handle_message(self, worker: WorkerProcess, message: dict[str, Any]) -> None:
        match message:
            case {"ready": str(location)}:
                self.services = list(message.get("services", ()))
                self._mark_ready(worker, location, message.get("instances", ()))
            case {"outdated": int(ended)}:
                self._exchange_one(worker, ended)
            case {"hung": str(description)}:
                print_status(f"{self._name(worker.number)}: {description}")
                worker.kill()
            case {"connected": bool(is_connected)}:
                worker.is_connected = is_connected
            case {"pending": int(pending)}:
                worker.pending = pending
                if self._progress is not None and not self._progress.has_been_shown:
                    self._progress.show()
            case {"stopped": str(summary)}:
                worker.summary = summary

    def _mark_ready(self, worker: WorkerProcess, location: str, instances: Sequence[str]) -> None:
        worker.mark_ready(location)
        if self._is_numbered:
            # Of several services, the worker has printed the instances itself. The host may be long, so it comes last.
            instance = f", instance {instances[0]}" if len(instances) == 1 else ""
            print_status(f"{self._name(worker.number)} ready, process {worker.pid}{instance} on {socket.gethostname()}")
        if not self._has_served:
            self._has_served = True
            assert self._tasks is not None
            for number in range(2, self._size + 1):
                self._tasks.start_soon(self._keep_running, number, name=f"natsery worker {number}")
        if not self._was_complete and len(self._ready_numbers()) == self._size:
            self._was_complete = True
            count = f"{pluralize(self._size, 'worker')} " if self._is_numbered else ""
            print_status(f"{count}ready {location}")
            self._on_ready()

    def _ready(self) -> list[WorkerProcess]:
        return [worker for worker in self._processes if worker.is_serving]

    def _ready_numbers(self) -> set[int]:
        return {worker.number for worker in self._ready()}

    def _give_up(self, why: str) -> None:
        print_status(why)
        self.given_up = True
        self.stop()
        self._on_give_up()

    # Exchanges

    def _exchange_one(self, worker: WorkerProcess, ended: int) -> None:
        """Have a worker exchanged that has ended as many requests as it is to end."""
        if not self._stopping.is_set() and worker is self._workers[worker.number]:
            print_status(f"{self._name(worker.number)} has ended {pluralize(ended, 'request')} and is exchanged")
            self._mark_outdated(worker.number, worker.started_at)

    def _mark_outdated(self, number: int, moment: float) -> None:
        """Have a worker exchanged if its process was started before this moment, or at it."""
        self._outdated[number] = max(moment, self._outdated.get(number, moment))
        self._has_outdated.set()

    async def _exchange_outdated(self) -> None:
        """Exchange outdated workers, one at a time."""
        while True:
            await self._has_outdated.wait()
            are_exchanged = True
            while self._outdated and are_exchanged:
                number = next(iter(self._outdated))
                self._remaining.discard(number)
                are_exchanged = await self._exchange(number, self._outdated.pop(number))
                # Single workers may be outdated again and again, so that is not what it waits for.
                if self._is_exchanging_all and not (self._remaining and are_exchanged):
                    self._end_exchange(are_exchanged=are_exchanged)
            # What kept one from starting would keep the others, too.
            self._outdated.clear()
            self._remaining.clear()
            self._has_outdated = anyio.Event()

    def _end_exchange(self, *, are_exchanged: bool) -> None:
        """Report that the exchange of all workers is over."""
        self._is_exchanging_all = False
        if self._stopping.is_set():
            return
        if are_exchanged:
            print_status(f"exchanged {self._all()}")
        if self._was_complete:
            self._on_ready()

    async def _exchange(self, number: int, outdated_at: float) -> bool:
        """Exchange a worker's process if it was not started later; return false if the new one does not come up."""
        old = self._workers.get(number)
        if old is None:
            return True  # it has not been started yet
        await old.settled.wait()
        if self._stopping.is_set() or old is not self._workers[number] or old.started_at > outdated_at:
            return True
        if old.ended.is_set():
            return True  # it starts again anyway
        new = self._start(number)
        with anyio.move_on_after(START_SECONDS):
            await new.settled.wait()
        if self._stopping.is_set():
            return True
        if not new.is_serving:
            await self._abandon(new)
            return False
        old, self._workers[number] = self._workers[number], new
        old.stop()
        with anyio.move_on_after(self._grace + KILL_SECONDS):
            await old.ended.wait()
        if not old.ended.is_set():
            print_status(f"the old {self._noun(number)} does not end; it is killed")
            old.kill()
            await old.ended.wait()
        return True

    async def _abandon(self, new: WorkerProcess) -> None:
        """Do without a process that does not come up."""
        if not new.ended.is_set():
            how = f"was not ready within {START_SECONDS:g} s and is killed"
            new.kill()
        else:
            how = describe_exit(new.status)
        print_status(f"the new {self._noun(new.number)} {how}; the old one stays, and the exchange ends")
        await new.ended.wait()

    # The end

    async def _drain(self) -> None:
        """Show the progress of the drain, and kill workers that do not end in time."""
        await self._stopping.wait()
        assert self._progress is not None
        with self._kill_scope:
            await self._progress.run()
        self._progress.end_line()
        for worker in self._processes:
            print_status(f"{self._name(worker.number)} does not end; it is killed")
            worker.kill()

    def _report_end(self, worker: WorkerProcess) -> None:
        # One that was not ready yet had nothing to drain, and may not have handled signals yet.
        if self._stopping.is_set() and worker.status != 0 and worker.location:
            self.is_clean = False
        if self._progress is not None:
            self._progress.end_line()
        summary = f": {worker.summary}" if worker.summary else ""
        current = self._workers[worker.number]
        name = self._name(worker.number)
        if worker is not current:
            name = f"the {'new' if worker.started_at > current.started_at else 'old'} {self._noun(worker.number)}"
        print_status(f"{name} {describe_exit(worker.status)}{summary}")

    def _all(self) -> str:
        return pluralize(self._size, "worker") if self._is_numbered else "the worker"

    def _name(self, number: int) -> str:
        return f"worker {number}" if self._is_numbered else "the worker"

    def _noun(self, number: int) -> str:
        return f"worker {number}" if self._is_numbered else "worker"
