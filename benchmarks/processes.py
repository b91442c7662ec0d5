"""The processes that the benchmarks run beside nats-server: services, clients and the requester."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent


def progress(text: str) -> None:
    """Say what is going on, beside the results."""
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Service:
    """An echo service that is live, and the versions of what it is made of."""

    process: subprocess.Popen[str]
    versions: str


class ServiceFailedError(Exception):
    """A service or a client did not say what it should have said."""


@contextmanager
def service(command: list[str], url: str, subject: str, *options: str) -> Iterator[Service]:
    """An echo service, live."""
    with ended(start([*command, url, subject, *options])) as process:
        yield Service(process, await_line(process, "ready"))


def start(command: list[str]) -> subprocess.Popen[str]:
    """A service or a client at work."""
    # asyncio receives into buffers of 256 KiB. Whether glibc gets each one from the kernel anew, at a third of a lone
    # request's time, depends on what a process has freed before; this makes it keep them, for all alike.
    keep = str(16 * 1024 * 1024)
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": keep, "MALLOC_TRIM_THRESHOLD_": keep}
    return _start(command, environment)


def _start(command: list[str], environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """A process that a terminal's Ctrl-C does not reach: it is ended by whoever started it."""
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, process_group=0)


def await_line(process: subprocess.Popen[str], expected: str) -> str:
    """Wait until a process says so, and return what else it says in that line."""
    assert process.stdout is not None
    word, _, rest = process.stdout.readline().strip().partition(" ")
    if word != expected:
        raise ServiceFailedError(f"it said {word!r} instead of {expected!r}")
    return rest


def start_requester(url: str, subject: str, *options: str, count: int, outstanding: int) -> subprocess.Popen[str]:
    """A requester at work; ``count=0`` goes on until it is terminated."""
    command = [sys.executable, str(HERE / "requester.py"), url, subject]
    return _start([*command, "--count", str(count), "--outstanding", str(outstanding), *options])


def finish_requester(process: subprocess.Popen[str]) -> dict[str, float]:
    """What a requester found out, once it has ended."""
    with ended(process):
        output, _ = process.communicate(timeout=120)
    if process.returncode != 0:
        raise ServiceFailedError("the requester failed")
    return json.loads(output)


def cpu_seconds(pid: int) -> float:
    """Processor time of all threads of a process so far."""
    # Its clock, as clock_getcpuclockid(3) makes it: /proc counts in hundredths of a second, which is too coarse here.
    return time.clock_gettime((~pid << 3) | 2)


@contextmanager
def ended(process: subprocess.Popen) -> Iterator[subprocess.Popen]:
    """End a process with the block."""
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
