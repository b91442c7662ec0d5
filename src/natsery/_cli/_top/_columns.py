"""The columns of ``natsery top``: which there are, which of them a width has room for, and how wide each is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

from rich.cells import cell_len

from ._rows import ERRORS_WIDTH, REQUESTS_WIDTH, Row
from ._view import Level, Sort

GAP: Final = "  "
"""What stands between two columns."""


@final
@dataclass(frozen=True)
class TopColumn:
    """A column.

    Attributes:
        key: what `Row.texts` has for it.
        title: its head.
        width: the cells that it has at least, or those that its texts need if that is less and it may grow.
        importance: those with the larger numbers go first when there is no room.
        right: whether it is aligned to the right.
        most: the cells that it may grow to if its texts need them, ``width`` if it never grows.
        sort: what it is sorted by.
        levels: the levels that have it; all if left out.
        keeps_end: whether a text that is too long loses its middle; if not, its end.
    """

    key: str
    title: str
    width: int
    importance: int
    right: bool = False
    most: int = 0
    sort: Sort | None = None
    levels: frozenset[Level] | None = None
    keeps_end: bool = True


HISTORY: Final = "history"
"""The key of the column with the sparklines, whose texts depend on its width."""

HISTORY_CELLS: Final = 20
"""The most cells that a sparkline gets."""

ENOUGH_FOR_A_NAME: Final = 26
"""Cells for names before other texts get more: an instance's id, moved to the right twice."""

COLUMNS: Final = (
    TopColumn("name", "Name", 16, 0, most=64, sort=Sort.NAME),
    TopColumn("instances", "Inst", 7, 6, right=True),
    TopColumn("version", "Version", 8, 10, most=16, keeps_end=False),
    TopColumn("up", "Up", 7, 9, right=True),
    TopColumn("rate", "Req/s", 7, 1, right=True, sort=Sort.REQUESTS),
    TopColumn("error_rate", "Err/s", 7, 3, right=True, sort=Sort.ERRORS),
    TopColumn("error_share", "Err%", 5, 5, right=True),
    TopColumn("mean", "Mean", 8, 2, right=True, sort=Sort.TIME),
    TopColumn(HISTORY, "History", 10, 4),
    TopColumn("requests", "Requests", REQUESTS_WIDTH, 7, right=True),
    TopColumn("errors", "Errors", ERRORS_WIDTH, 8, right=True),
    TopColumn("subject", "Subject", 10, 12, most=60, levels=frozenset({Level.ENDPOINTS, Level.ALL})),
    TopColumn("last_error", "Last error", 12, 11, most=60, keeps_end=False),
    TopColumn("metadata", "Metadata", 10, 13, most=80, levels=frozenset({Level.INSTANCES, Level.ALL}), keeps_end=False),
)
"""All columns, in the order in which they stand."""


def columns_of(level: Level, *, history: bool = True) -> list[TopColumn]:
    """The columns that a level has, with sparklines or without, in the order in which they stand."""
    return [
        each for each in COLUMNS if (each.levels is None or level in each.levels) and (history or each.key != HISTORY)
    ]


def lay_out(rows: Iterable[Row], columns: Sequence[TopColumn], width: int) -> list[tuple[TopColumn, int]]:
    """Those of the columns that a width has room for, each with its width.

    The first that finds no room keeps out all that are less important. What room is left over goes to names, then to
    the other texts, and then to what is nice to have longer.
    """
    needs = _needs(rows)
    by_importance = sorted(columns, key=lambda each: each.importance)
    widths: dict[str, int] = {}
    left = width + len(GAP)
    for column in by_importance:
        least = min(column.width, max(needs.get(column.key, 0), len(column.title) + 1)) if column.most else column.width
        if len(GAP) + least > left and widths:
            break
        widths[column.key] = min(least, left - len(GAP))
        left -= len(GAP) + least
    wanted = {each.key: min(each.most, needs.get(each.key, 0)) for each in by_importance}
    left = _grow(widths, {"name": min(wanted["name"], ENOUGH_FOR_A_NAME)}, left)
    left = _grow(widths, {key: cells for key, cells in wanted.items() if key != "version"}, left)
    _grow(widths, {"version": wanted["version"], HISTORY: HISTORY_CELLS}, left)
    return [(column, widths[column.key]) for column in columns if column.key in widths]


def _grow(widths: dict[str, int], wanted: Mapping[str, int], left: int) -> int:
    """Give room to the columns that want it, always to the narrowest, so that one long text does not take it all."""
    while left > 0 and (growing := [key for key, cells in wanted.items() if widths.get(key, cells) < cells]):
        widths[min(growing, key=widths.__getitem__)] += 1
        left -= 1
    return left


def _needs(rows: Iterable[Row]) -> Mapping[str, int]:
    needs: dict[str, int] = {}
    for row in rows:
        for key, text in row.texts.items():
            needs[key] = max(needs.get(key, 0), cell_len(text))
    return needs
