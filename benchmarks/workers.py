"""Measures `natsery run` with one worker and with two: what they answer together, and what that costs."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from feature_configs import SUBJECT
from lab import Lab, in_turn

from natsery.testing import NatsServer
from processes import ServiceFailedError, cpu_seconds, ended, finish_requester, start, start_requester

WORKERS = (1, 2)
DEPTHS = (64, 512)
COUNT = 100_000
WARM_UP = 5_000
START_SECONDS = 120.0
END_SECONDS = 20.0

MEASURES = {
    "requests_per_second": "requests/s",
    "cpu_us": "CPU µs each",
    "p50_us": "p50 µs",
    "p99_us": "p99 µs",
    "errors": "errors",
}
NOTE = "An echo of 16 bytes on trio; CPU is that of all workers and their supervisor. Server and requester want processors, too."


def measure_workers(lab: Lab) -> None:
    """Both in turn, each started afresh."""
    rows = {(str(depth), str(workers)): (str(depth), "1") for depth in DEPTHS for workers in WORKERS}
    table = lab.begin("workers", "Workers", ("outstanding", "workers"), MEASURES, rows, NOTE)
    for number in range(1, lab.runs + 1):
        run = table.begin_run()
        for workers in in_turn(list(WORKERS), number):
            with NatsServer() as server, _running(server, workers) as process:
                _measure(process.pid, server.url, WARM_UP, 64)
                for depth in DEPTHS:
                    result = _measure(process.pid, server.url, lab.scaled(COUNT), depth)
                    said = f"{result['requests_per_second']:.0f} requests/s, {result['errors']:.0f} errors"
                    lab.record(number, run, (str(depth), str(workers)), result, said)


@contextmanager
def _running(server: NatsServer, workers: int) -> Iterator[subprocess.Popen[str]]:
    """`natsery run`, once all of its workers are live."""
    here = Path(__file__).parent
    command = [sys.executable, "-m", "natsery", "run", str(here / "feature_configs.py"), "--server", server.url]
    with ended(start([*command, "--workers", str(workers), "--log-level", "error"])) as process:
        deadline = time.monotonic() + START_SECONDS
        while server.subscriptions().count(SUBJECT) < workers:
            if process.poll() is not None or time.monotonic() > deadline:
                raise ServiceFailedError(f"{workers} workers are not live after {START_SECONDS:.0f} s")
            time.sleep(0.05)
        yield process
        process.terminate()  # killed, it could not end its workers
        process.wait(END_SECONDS)


def _measure(pid: int, url: str, count: int, outstanding: int) -> dict[str, float]:
    """One run of the requester against all of them."""
    family = [pid, *_descendants(pid)]
    before = sum(map(cpu_seconds, family))
    result = finish_requester(start_requester(url, SUBJECT, count=count, outstanding=outstanding))
    result["cpu_us"] = (sum(map(cpu_seconds, family)) - before) * 1e6 / count
    return {measure: result[measure] for measure in MEASURES}


def _descendants(pid: int) -> Iterator[int]:
    """The processes that a process has started, and theirs."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            yield child
            yield from _descendants(child)
