"""A process of a worker, as its supervisor sees it: started, followed until it has ended, and told to end."""

from __future__ import annotations

import math
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias, final

import anyio
from anyio.abc import Process

from .._exit_codes import Exit
from .._output import print_status
from ._channel import Channel

Handle: TypeAlias = "Callable[[WorkerProcess, dict[str, Any]], None]"
"""Called with the messages of a process."""


@final
class WorkerProcess:
    """One process of a worker.

    Attributes:
        number: the worker's number.
        started_at: when it was made, on the event loop's clock.
        location: where it serves, in words; ``""`` until it is ready.
        ready_at: when it was ready.
        is_connected: whether the server is there.
        pending: how many requests it has not finished, ``None`` while that is unknown.
        summary: what it did at the end, in words.
        status: its exit status, or the negative number of the signal that killed it; 0 until then.
        is_told: whether it has been told to end.
        settled: set when it is ready or has ended.
        ended: set when it has ended.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.started_at = anyio.current_time()
        self.location = ""
        self.ready_at = math.inf
        self.is_connected = True
        self.pending: int | None = None
        self.summary = ""
        self.status = 0
        self.is_told = False
        self.settled = anyio.Event()
        self.ended = anyio.Event()
        self._process: Process | None = None
        self._channel: Channel | None = None

    @property
    def pid(self) -> int:
        """Its process id, 0 before it has started."""
        return 0 if self._process is None else self._process.pid

    @property
    def is_serving(self) -> bool:
        """Whether it is ready and has not ended."""
        return bool(self.location) and not self.ended.is_set()

    async def run(
        self, command: Sequence[str], environment: Mapping[str, str], handle: Handle, patience: float
    ) -> None:
        """Start the process, handle its messages, and return when it has ended.

        **Cancellation:** its channel is closed, so that it drains; what has not ended after ``patience`` seconds is killed.
        """
        try:
            await self._run(command, environment, handle, patience)
        except OSError as error:
            print_status(f"cannot start a process: {error}")
            self.status = Exit.FAILED
        finally:
            self.settled.set()
            self.ended.set()

    async def _run(
        self, command: Sequence[str], environment: Mapping[str, str], handle: Handle, patience: float
    ) -> None:
        end, other_end = socket.socketpair()
        with Channel(end) as self._channel:
            with other_end:
                # In another session, so that a terminal's Ctrl-C reaches it through this supervisor alone.
                process = self._process = await anyio.open_process(
                    command,
                    stdin=other_end.fileno(),
                    stdout=None,
                    stderr=None,
                    env=environment,
                    start_new_session=True,
                )
            try:
                if self.is_told:
                    self.stop()
                await self._follow(process, self._channel, partial(handle, self))
            finally:
                self._channel.close()
                # Protects the drain of a worker whose supervisor is cancelled; bounded, for it may not end.
                with anyio.move_on_after(patience, shield=True):
                    await process.wait()
                self.kill()
                self.status = process.returncode or 0

    async def _follow(self, process: Process, channel: Channel, handle: Callable[[dict[str, Any]], None]) -> None:
        """Handle messages until the process has ended."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(channel.receive, handle, name=f"natsery worker {self.number} channel")
            await process.wait()
            tasks.cancel_scope.cancel("the worker has ended")
        channel.receive_available(handle)

    def mark_ready(self, location: str) -> None:
        """Note that it is ready."""
        self.location = location
        self.ready_at = anyio.current_time()
        self.settled.set()

    def stop(self) -> None:
        """Tell it to drain and end."""
        self.is_told = True
        # Not with a signal: systemd, for example, sends one to the workers as well, and a second one would cut them off.
        self._tell(stop=True)
        if not self.location:
            # It has nothing to drain, and may not read the channel yet.
            self._send(signal.SIGTERM)

    def cut_off(self, number: signal.Signals) -> None:
        """Tell it to end at once, with the exit status for this signal."""
        self._tell(cut_off=number)

    def kill(self) -> None:
        """Kill its process."""
        self._send(signal.SIGKILL)

    def _tell(self, **message: Any) -> None:
        if self._channel is not None:
            self._channel.send(**message)

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                # Not `send_signal`: before Python 3.13 it takes the exit status of a process that has ended, and asyncio says
                # 255. Its id may be free for a moment, but is no other process's yet: ids are given out in turn.
                os.kill(self._process.pid, number)
