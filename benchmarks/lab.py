"""What all measurements share: how much to measure, whom, where to install it, and what has come out so far."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from figures import Labels, Run, Table
from installations import UnavailableError

from processes import ServiceFailedError, progress


@dataclass(frozen=True)
class Contestant:
    """Somebody who works on this machine."""

    key: str
    title: str
    command: list[str]

    @property
    def subject(self) -> str:
        """What is its own."""
        return f"bench.{self.key}"


@dataclass
class Lab:
    """A set of measurements, and what has come out so far.

    Args:
        folder: where the programs of others are installed.
        peers: the keys of those who take part.
        runs: how often each is measured, forwards and backwards by turns.
        scale: how many times as much is done in each measurement.
    """

    folder: Path
    peers: Collection[str]
    runs: int
    scale: float
    is_quick: bool = False
    tables: list[Table] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def scaled(self, count: float) -> int:
        """More or less of that, and at least a few."""
        return max(int(count * self.scale), 10)

    def admit(self, title: str, try_out: Callable[[], tuple[Contestant, str]]) -> Contestant | None:
        """Somebody who takes part, or ``None`` if it cannot be had or does not work here, which is noted."""
        progress(f"preparing {title}")
        try:
            contestant, versions = try_out()
        except (UnavailableError, ServiceFailedError) as error:
            self.skipped[title] = str(error)
            progress(f"{title}: skipped: {error}")
            return None
        self.versions[title] = versions
        return contestant

    def begin(
        self,
        key: str,
        title: str,
        headings: Labels,
        measures: dict[str, str],
        rows: dict[Labels, Labels | None],
        note: str = "",
    ) -> Table:
        """A table, which is kept from now on with whatever will be in it."""
        table = Table(key, title, headings, measures, rows, note)
        self.tables.append(table)
        return table

    def record(self, number: int, run: Run, row: Labels, figures: dict[str, float], said: str) -> None:
        """Keep what one measurement has found, and say so."""
        run[row] = figures
        progress(f"run {number} of {self.runs}: {', '.join(row)}: {said}")


def in_turn(contestants: list[Contestant], number: int) -> list[Contestant]:
    """Forwards in odd runs and backwards in even ones, so that no place in the order is an advantage."""
    return contestants if number % 2 else contestants[::-1]
