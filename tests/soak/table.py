"""Tallies as a table for people, and as JSON for programs."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version

from natsery.testing._server_process import find_program

from .tally import LeftOver, Tally

HEADINGS = (
    *("form", "scenario", "seconds", "runs", "requests", "cut off", "lost", "hung", "failed"),
    *("tasks", "connections", "pending", "files", "memory, KiB", "objects"),
)


def environment() -> dict[str, str]:
    """Return when and with what it was measured."""
    server = subprocess.run([find_program(), "--version"], capture_output=True, text=True, check=True).stdout
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "natsery": version("natsery"),
        "python": platform.python_version(),
        "trio": version("trio"),
        "anyio": version("anyio"),
        "nats-server": server.rpartition("v")[2].strip(),
        "machine": f"{platform.system()} {platform.machine()}",
    }


def as_markdown(tallies: Sequence[Tally]) -> str:
    lines = [f"| {' | '.join(HEADINGS)} |", f"|{'---|' * 2}{'---:|' * (len(HEADINGS) - 2)}"]
    lines += [f"| {' | '.join(_cells(tally))} |" for tally in tallies]
    return "\n".join(lines)


def as_json(tallies: Sequence[Tally]) -> str:
    return json.dumps({"environment": environment(), "tallies": [asdict(tally) for tally in tallies]}, indent=2)


def failures(tallies: Sequence[Tally]) -> str:
    """Return each failed run, with its error and how it is repeated."""
    parts = []
    for tally in tallies:
        for failure in tally.failures:
            again = f"--form {tally.form} --scenario {tally.scenario} --seed {failure['seed']} --runs 1"
            parts.append(f"python -m tests.soak {again}\n{failure['error']}")
    return "\n".join(parts)


def _cells(tally: Tally) -> list[str]:
    counts = (tally.runs, tally.requests, tally.cut_off, tally.lost, tally.hung, tally.failed)
    left = [""] * len(asdict(LeftOver())) if tally.left is None else [_number(n) for n in asdict(tally.left).values()]
    return [tally.form, tally.scenario, f"{tally.seconds:.0f}", *map(_number, counts), *left]


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"
