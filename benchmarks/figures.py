"""What a benchmark has found: tables of figures, each with the runs that it comes from."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Labels = tuple[str, ...]
"""What a row is about."""

Run = dict[Labels, Mapping[str, float]]
"""What was measured in one run, for each row that it came to."""


@dataclass
class Table:
    """Rows of figures: of each, the median over the runs, and the median of the ratios to another row of the same run.

    A run that was broken off counts for the rows that it came to.
    """

    key: str
    title: str
    headings: Labels
    measures: Mapping[str, str]
    """The heading of each measure, with its unit."""
    rows: dict[Labels, Labels | None]
    """Each row, and the one that its ratios are to."""
    note: str = ""
    totals: tuple[str, ...] = ("errors",)
    """The measures of which the sum over the runs is shown, and no ratio."""
    runs: list[Run] = field(default_factory=list)

    @property
    def part(self) -> str:
        """The part of the measurements that it belongs to."""
        return self.key.partition("-")[0]

    def begin_run(self) -> Run:
        """A further run, empty."""
        self.runs.append({})
        return self.runs[-1]

    def measured(self, row: Labels, measure: str) -> list[float]:
        """As often as it was measured."""
        return [run[row][measure] for run in self.runs if row in run]

    def ratio(self, row: Labels, measure: str) -> float | None:
        """The median of the ratios to the other row, if there are any."""
        other = self.rows[row]
        if other is None:
            return None
        pairs = [(run[row][measure], run[other][measure]) for run in self.runs if row in run and other in run]
        ratios = [own / theirs for own, theirs in pairs if theirs]
        return statistics.median(ratios) if ratios else None

    @property
    def found(self) -> list[Labels]:
        """The rows that were measured."""
        return [row for row in self.rows if any(row in run for run in self.runs)]

    def markdown(self) -> str:
        """The table: ratios, with the medians in brackets behind them."""
        head = [*self.headings, *self.measures.values()]
        lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
        for row in self.found:
            cells = [self._cell(row, measure) for measure in self.measures]
            lines.append(f"| {' | '.join([*row, *cells])} |")
        text = f"{self.note}\n\n" if self.note else ""
        return text + "\n".join(lines) + "\n" if self.found else ""

    def _cell(self, row: Labels, measure: str) -> str:
        """One figure."""
        if measure in self.totals:
            return short(sum(self.measured(row, measure)))
        median = short(statistics.median(self.measured(row, measure)))
        ratio = self.ratio(row, measure)
        return median if ratio is None else f"{ratio:.2f} ({median})"

    def as_json(self) -> dict[str, Any]:
        """All of it: every run, and what the table shows."""
        return {
            "key": self.key,
            "title": self.title,
            "note": self.note,
            "measures": dict(self.measures),
            "rows": [self._row_as_json(row) for row in self.found],
        }

    def _row_as_json(self, row: Labels) -> dict[str, Any]:
        figures = {
            measure: {
                "median": statistics.median(self.measured(row, measure)),
                "ratio": self.ratio(row, measure),
                "runs": self.measured(row, measure),
            }
            for measure in self.measures
        }
        return {"labels": dict(zip(self.headings, row, strict=True)), "figures": figures}


def short(value: float) -> str:
    """Three digits that say something, and thousands apart."""
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.3g}"
