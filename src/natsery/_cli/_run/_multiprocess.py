"""Workers in processes of their own, from the first start to the last end: kept up, counted, ended together."""

from __future__ import annotations

import math
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, final

import anyio
from anyio.abc import Process, TaskGroup

from ..._service._serve import DEFAULT_GRACE
from .._format import counted
from .._output import tell
from ._channel import Channel
from ._progress import Progress
from ._restarts import GiveUp, Restarts, ending

LATE_SECONDS = 10.0
"""How long a worker may take to end when the grace is over; then it is killed."""


@final
class _Member:
    """One process of a worker."""

    def __init__(self, number: int, process: Process, channel: Channel) -> None:
        self.number = number
        self.process = process
        self.place = ""
        self.ready_at = math.inf
        self.pending: int | None = None
        self.last_words = ""
        self._channel = channel

    def stop(self) -> None:
        """Have it drain and end."""
        # Not a signal: what sends signals to a supervisor may send them to its workers too, as systemd does, and a second
        # one would cut off.
        self._channel.tell(stop=True)
        if not self.place:
            # It has nothing to drain, and may not listen for a while yet.
            self._send(signal.SIGTERM)

    def cut_off(self, how: signal.Signals) -> None:
        """Have it end at once, with the exit status of this signal."""
        self._channel.tell(cut_off=how)

    def kill(self) -> None:
        """End its process."""
        self._send(signal.SIGKILL)

    def _send(self, how: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            self.process.send_signal(how)


@final
class WorkerProcesses:
    """So many workers of the same service. The first one starts alone: what is wrong is said once, not once for each.

    Args:
        command: what starts a worker; its number follows.
        environment: its environment.
        size: how many there are to be.
        is_numbered: whether they are told apart in what is printed.
        grace: the seconds that each of them has for its requests at the end.

    Attributes:
        given_up: whether a worker has been given up.
        is_clean: whether every worker that was asked to end has drained.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        size: int,
        is_numbered: bool,
        grace: float,
    ) -> None:
        self._command = command
        self._environment = environment
        self._size = size
        self._is_numbered = is_numbered
        self._grace = grace
        self._keepers: TaskGroup | None = None
        self._members: dict[int, _Member] = {}
        self._has_served = False
        self._has_been_complete = False
        self._stopping = anyio.Event()
        self._patience = anyio.CancelScope()
        self._progress: Progress | None = None
        self.given_up = False
        self.is_clean = True

    async def run(self) -> None:
        """Keep the workers up until ``stop``, or until one is given up; returns when all have ended."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._see_to_the_end, name="natsery workers' end")
            async with anyio.create_task_group() as self._keepers:
                self._keepers.start_soon(self._keep, 1, name="natsery worker 1")
            tasks.cancel_scope.cancel("every worker has ended")
        if self._progress is not None:
            self._progress.end_line()

    def stop(self) -> None:
        """Have every worker drain and end, and start none any more; only the first call counts."""
        if self._stopping.is_set():
            return
        deadline = anyio.current_time() + self._grace
        self._progress = Progress(self._pending, deadline)
        self._patience.deadline = deadline + LATE_SECONDS
        self._stopping.set()
        for member in self._members.values():
            member.stop()

    def cut_off(self, how: signal.Signals) -> None:
        """Have every worker end at once; to be called after ``stop``."""
        now = anyio.current_time()
        self._patience.deadline = min(self._patience.deadline, now + LATE_SECONDS)
        if self._progress is not None:
            self._progress.end_line()
            self._progress.hurry(now)
            pending = self._pending()
            tell("cutting off" + ("" if pending is None else f" {counted(pending, 'request')}"))
        for member in self._members.values():
            member.cut_off(how)

    # One worker

    async def _keep(self, number: int) -> None:
        """Start a worker, and start it again when it ends without having been asked to."""
        restarts = Restarts()
        while not self._stopping.is_set():
            member, status, served = await self._run_one(number)
            if self._stopping.is_set():
                self._tell_end(member, status)
                return
            decision = restarts.decide(status, served, proven=self._has_served)
            if isinstance(decision, GiveUp):
                self._give_up(f"{self._name(number)} {ending(status)} and is given up: {decision.reason}")
                return
            tell(f"{self._name(number)} {ending(status)}; it starts again in {decision.pause:g} s")
            with anyio.move_on_after(decision.pause):
                await self._stopping.wait()

    async def _run_one(self, number: int) -> tuple[_Member, int, float]:
        """Run a worker's process: how it ended, and for how many seconds it had served."""
        end, other_end = socket.socketpair()
        with Channel(end) as channel:
            with other_end:
                # In a session of its own, so that a terminal's Ctrl-C comes from here alone.
                process = await anyio.open_process(
                    [*self._command, str(number if self._is_numbered else 0)],
                    stdin=other_end.fileno(),
                    stdout=None,
                    stderr=None,
                    env=self._environment,
                    start_new_session=True,
                )
            member = self._members[number] = _Member(number, process, channel)
            try:
                if self._stopping.is_set():
                    member.stop()
                await self._attend(member, channel)
            finally:
                del self._members[number]
                channel.close()
                # Protects the drain of a worker that has lost its supervisor, and the machine from one that does not end.
                with anyio.move_on_after(min(self._grace, DEFAULT_GRACE) + LATE_SECONDS, shield=True):
                    await process.wait()
                member.kill()
        assert process.returncode is not None
        return member, process.returncode, max(0.0, anyio.current_time() - member.ready_at)

    async def _attend(self, member: _Member, channel: Channel) -> None:
        """Listen to a worker until it has ended."""
        hear = partial(self._hear, member)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(channel.listen, hear, name=f"natsery worker {member.number} channel")
            await member.process.wait()
            tasks.cancel_scope.cancel("the worker has ended")
        channel.hear_rest(hear)

    def _hear(self, member: _Member, facts: dict[str, Any]) -> None:
        match facts:
            case {"ready": str(place)}:
                self._welcome(member, place)
            case {"pending": int(pending)}:
                member.pending = pending
                if self._progress is not None and not self._progress.has_been_shown:
                    self._progress.show()
            case {"stopped": str(last_words)}:
                member.last_words = last_words

    def _welcome(self, member: _Member, place: str) -> None:
        member.ready_at = anyio.current_time()
        member.place = place
        if self._is_numbered:
            tell(f"{self._name(member.number)} ready, process {member.process.pid}")
        if not self._has_served:
            self._has_served = True
            assert self._keepers is not None
            for number in range(2, self._size + 1):
                self._keepers.start_soon(self._keep, number, name=f"natsery worker {number}")
        if not self._has_been_complete and len(self._ready()) == self._size:
            self._has_been_complete = True
            count = f"{counted(self._size, 'worker')} " if self._is_numbered else ""
            tell(f"{count}ready {place}")

    def _ready(self) -> list[_Member]:
        return [member for member in self._members.values() if member.place]

    def _give_up(self, why: str) -> None:
        tell(why)
        self.given_up = True
        self.stop()

    # The end

    async def _see_to_the_end(self) -> None:
        """Show how the drain goes on, and kill who does not end."""
        await self._stopping.wait()
        assert self._progress is not None
        with self._patience:
            await self._progress.run()
        self._progress.end_line()
        for member in self._members.values():
            tell(f"{self._name(member.number)} does not end; it is killed")
            member.kill()

    def _pending(self) -> int | None:
        """Requests in hand, as far as the workers that are ready have all told."""
        known = [member.pending for member in self._ready()]
        told = [pending for pending in known if pending is not None]
        return sum(told) if told and len(told) == len(known) else None

    def _tell_end(self, member: _Member, status: int) -> None:
        # One that was not ready yet had nothing to drain, and may not have seen to its signals yet.
        if status != 0 and member.place:
            self.is_clean = False
        if self._progress is not None:
            self._progress.end_line()
        words = f": {member.last_words}" if member.last_words else ""
        tell(f"{self._name(member.number)} {ending(status)}{words}")

    def _name(self, number: int) -> str:
        return f"worker {number}" if self._is_numbered else "the worker"
