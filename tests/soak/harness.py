"""Repeats a scenario, counts what becomes of its requests, and looks what is left over."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import time
import traceback
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import anyio

import natsery
from natsery.abc import Connection
from natsery.testing import NatsServer

from .tally import LeftOver, Tally

LOST_SECONDS = 20.0
"""How long a request may wait for its answer before it counts as lost: the grace of services, and as much again."""

RUN_SECONDS = 120.0
"""How long a run may take before it counts as hung."""

CLEANUP_SECONDS = 10.0
"""How long a server may take to notice that its clients have gone."""

REPORT_SECONDS = 2.0
"""How often progress is reported, at most."""

WARM_UP = 0.25
"""The part of the runs, or of the time, after which memory is measured for the first time."""

Run = Callable[[random.Random], Awaitable[None]]

Scenario = Callable[["Bench"], AbstractAsyncContextManager[Run]]
"""Sets up what all its runs share and gives the function that does one run, with the chance that its seed gives."""


class Bench:
    """What a scenario works with.

    Attributes:
        server: a nats-server that all scenarios share; one that breaks its server starts its own.
        tally: where it counts.
    """

    def __init__(self, server: NatsServer, tally: Tally) -> None:
        self.server = server
        self.tally = tally
        self.left = LeftOver()

    @property
    def url(self) -> str:
        return self.server.url

    async def ask(
        self,
        nc: Connection,
        subject: str,
        data: bytes = b"",
        *,
        seconds: float | None = None,
        may_be_cut_off: bool = False,
        headers: dict[str, str] | None = None,
    ) -> natsery.Message | None:
        """Send a request and return the answer, ``None`` if none came; it counts as lost then, or as cut off."""
        self.tally.requests += 1
        with anyio.move_on_after(LOST_SECONDS if seconds is None else seconds):
            return await nc.request(subject, data, headers=headers)
        if may_be_cut_off:
            self.tally.cut_off += 1
        else:
            self.tally.lost += 1
        return None

    def check_ended(self, *services: natsery.Service) -> None:
        """Note what services that have ended have not finished."""
        self.left.pending += sum(service.pending for service in services)


async def wait_until_back(*connections: Connection) -> None:
    """Wait until connections that were cut are whole again."""
    for nc in connections:
        while True:
            try:
                await nc.flush()
                break
            except natsery.ConnectionLostError:  # with what had been sent before; it is on its way back
                pass


async def repeat(
    scenario: Scenario,
    server: NatsServer,
    tally: Tally,
    report: Callable[[Tally], None],
    *,
    seconds: float,
    runs: int | None,
    first_seed: int,
) -> None:
    """Do a scenario's runs, each with the next seed, until the time is over or there were so many."""
    bench = Bench(server, tally)
    before = _Resources()
    begun = reported = time.monotonic()
    warm: _Memory | None = None
    growth: tuple[int | None, int] = (None, 0)

    def done() -> float:
        """Return which part of the work is done, from 0 to 1."""
        return tally.runs / runs if runs is not None else (time.monotonic() - begun) / seconds

    try:
        async with scenario(bench) as run:
            while done() < 1:
                await _run_once(run, tally, first_seed + tally.runs)
                tally.runs += 1
                tally.seconds = time.monotonic() - begun
                if warm is None and done() >= WARM_UP:
                    warm = _Memory()
                if time.monotonic() - reported >= REPORT_SECONDS:
                    reported = time.monotonic()
                    report(tally)
            growth = _Memory() - (warm or _Memory())
    except Exception:  # what the scenario's own setting-up or cleaning-up raises
        tally.failed += 1
        tally.note_failure(first_seed + tally.runs, traceback.format_exc())
    bench.left.memory_kib, bench.left.objects = growth
    await _look_around(bench, before)
    tally.left = bench.left
    report(tally)


async def _run_once(run: Run, tally: Tally, seed: int) -> None:
    try:
        with anyio.fail_after(RUN_SECONDS):
            await run(random.Random(seed))
    except TimeoutError:
        tally.hung += 1
        tally.note_failure(seed, traceback.format_exc())
    except Exception:
        tally.failed += 1
        tally.note_failure(seed, traceback.format_exc())


async def _look_around(bench: Bench, before: _Resources) -> None:
    """Note what is still there once everything had time to go."""
    left = bench.left
    with anyio.move_on_after(CLEANUP_SECONDS):
        while True:
            left.tasks, left.files = before.more_now()
            left.connections = bench.server.monitor("connz")["num_connections"]
            if not (left.tasks or left.files or left.connections):
                break
            await anyio.sleep(0.05)


class _Resources:
    """The tasks and open files at one moment."""

    def __init__(self) -> None:
        self.tasks = {task.id for task in anyio.get_running_tasks()}
        self.files = _open_files()

    def more_now(self) -> tuple[int, int | None]:
        now = _Resources()
        files = None if now.files is None or self.files is None else max(0, now.files - self.files)
        return len(now.tasks - self.tasks), files


class _Memory:
    """Memory of the process at one moment, after all garbage has gone."""

    def __init__(self) -> None:
        gc.collect()
        self.objects = len(gc.get_objects())
        self.kib: int | None = None
        with contextlib.suppress(OSError):  # not on every system
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    self.kib = int(line.split()[1])

    def __sub__(self, earlier: _Memory) -> tuple[int | None, int]:
        kib = None if self.kib is None or earlier.kib is None else self.kib - earlier.kib
        return kib, self.objects - earlier.objects


def _open_files() -> int | None:
    try:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    except OSError:
        return None
