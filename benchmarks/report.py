"""Writes what a set of measurements has found: JSON with every run, Markdown, a chart, and the figures of docs/benchmarks.md."""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from chart import draw
from lab import Lab
from page import PAGE, times, write_part

PAGE_CHART = PAGE.with_suffix(".svg")


@dataclass(frozen=True)
class Machine:
    """Where and when it was measured."""

    date: str
    processor: str
    processors: int
    memory_gib: float
    system: str
    python: str
    load: float
    """Processors that others used before the first measurement, over a second."""

    @classmethod
    def here(cls) -> Machine:
        """This one, now."""
        return cls(
            date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            processor=_processor(),
            processors=len(os.sched_getaffinity(0)),
            memory_gib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
            system=f"{platform.system()} {platform.release()}",
            python=f"{platform.python_implementation()} {platform.python_version()}, {platform.python_compiler()}",
            load=_load(),
        )

    @property
    def is_busy(self) -> bool:
        """Whether others used it at the start, so that times mean little."""
        return self.load > self.processors / 4

    def sentence(self) -> str:
        """It in one line."""
        busy = f". **The machine was busy (load {self.load:.1f}): the times mean little**" if self.is_busy else ""
        return (
            f"{self.date}, {self.processor}, {self.processors} processors, {self.memory_gib:.0f} GiB, "
            f"{self.system}, {self.python}{busy}"
        )


def as_json(lab: Lab, machine: Machine, finished: bool) -> dict[str, Any]:
    """All of it."""
    return {
        "natsery": version("natsery"),
        "finished": finished,
        "set": _set(lab),
        "machine": machine.__dict__,
        "versions": lab.versions,
        "skipped": lab.skipped,
        "tables": [table.as_json() for table in lab.tables],
    }


def as_markdown(lab: Lab, machine: Machine, finished: bool) -> str:
    """The tables, under headings of the third level, with what they come from."""
    parts = [f"{machine.sentence()}.", _set(lab) + ("" if finished else ", broken off before its end") + "."]
    for table in lab.tables:
        if table.found:
            parts += [f"### {table.title}", table.markdown().rstrip()]
    parts += ["### Versions", "\n".join(f"- {title}: {versions}" for title, versions in lab.versions.items())]
    if lab.skipped:
        parts += ["Not measured:", "\n".join(f"- {title}: {reason}" for title, reason in lab.skipped.items())]
    return "\n\n".join(parts) + "\n"


def chart_of(lab: Lab, machine: Machine) -> str | None:
    """The chart of the services, if they were measured."""
    subtitle = f"{machine.date}, {machine.processor}, {machine.processors} processors. {_set(lab)}"
    return next((draw(table, subtitle) for table in lab.tables if table.key == "services" and table.found), None)


def write(lab: Lab, machine: Machine, folder: Path, *, finished: bool) -> str:
    """Write ``results.json``, ``results.md`` and ``results.svg``, and return the second."""
    folder.mkdir(parents=True, exist_ok=True)
    markdown = as_markdown(lab, machine, finished)
    (folder / "results.json").write_text(json.dumps(as_json(lab, machine, finished), indent=1) + "\n")
    (folder / "results.md").write_text(f"# natsery {version('natsery')} measured\n\n{markdown}", encoding="utf-8")
    chart = chart_of(lab, machine)
    if chart is not None:
        (folder / "results.svg").write_text(chart, encoding="utf-8")
    return markdown


def write_page(lab: Lab, machine: Machine) -> None:
    """Put the tables and the chart into docs/benchmarks.md, and leave there what was not measured."""
    chart = chart_of(lab, machine)
    if chart is not None:
        PAGE_CHART.write_text(chart, encoding="utf-8")
    versions = {each for versions in lab.versions.values() for each in versions.split(", ")}
    head = f"{machine.sentence()}; {', '.join(sorted(versions, key=str.lower))}. {_set(lab)}."
    if lab.skipped:
        head += f" Not measured: {'; '.join(f'{title}: {reason}' for title, reason in lab.skipped.items())}."
    found = [table for table in lab.tables if table.found]
    for part in dict.fromkeys(table.part for table in found):
        tables = [f"### {table.title}\n\n{table.markdown()}" for table in found if table.part == part]
        write_part(times(part), "\n".join([*tables, head]))


def _set(lab: Lab) -> str:
    """How much was measured."""
    kind = "The quick set" if lab.is_quick else "The full set"
    runs = "1 run" if lab.runs == 1 else f"medians of {lab.runs} paired runs"
    return f"{kind}: {runs}" + ("" if lab.scale == 1 else f", {lab.scale:g} times the usual work")


def _load() -> float:
    """Processors in use, over a second; unlike the load average, it forgets at once what has ended."""
    before = _idle_seconds()
    time.sleep(1)
    return max(len(os.sched_getaffinity(0)) - (_idle_seconds() - before), 0.0)


def _idle_seconds() -> float:
    """How long the processors have had nothing to do, all together."""
    return float(Path("/proc/uptime").read_text().split()[1])


def _processor() -> str:
    """Its name."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
