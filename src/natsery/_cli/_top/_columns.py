"""The columns of ``natsery top``, and their layout in a given width."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

from rich.cells import cell_len

from ._rows import ERRORS_WIDTH, REQUESTS_WIDTH, Row
from ._view import Level, Sort

GAP: Final = "  "
"""The text between two columns."""


@final
@dataclass(frozen=True)
class TopColumn:
    """A column of ``natsery top``.

    Attributes:
        key: its key in `Row.texts`.
        title: its heading.
        width: its minimum of cells; a column that may grow is narrower if its texts need less.
        importance: columns with larger numbers are left out first.
        right: whether it is aligned to the right.
        most: the cells that it may grow to if its texts need them; 0 if it never grows.
        sort: the order in which it is the sort key.
        levels: the levels that show it; all if left out.
        keeps_end: whether texts that are too long are shortened in the middle rather than at the end.
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
"""The key of the column with the sparklines, which are drawn when its width is known."""

HISTORY_CELLS: Final = 20
"""The most cells of a sparkline."""

FIRST_NAME_CELLS: Final = 32
"""The width that names grow to before they share with other texts: an instance's id, and most names, with indents."""

BEFORE_NAMES: Final = 5
"""The importance of the last column that is there before names grow; others get what names leave."""

COLUMNS: Final = (
    TopColumn("name", "Name", 16, 0, most=64, sort=Sort.NAME),
    TopColumn("instances", "Inst", 7, 5, right=True),
    TopColumn("version", "Version", 8, 10, most=16, keeps_end=False),
    TopColumn("up", "Up", 7, 9, right=True),
    TopColumn("rate", "Req/s", 7, 1, right=True, sort=Sort.REQUESTS),
    TopColumn("error_rate", "Err/s", 7, 3, right=True, sort=Sort.ERRORS),
    TopColumn("error_share", "Err%", 5, 4, right=True),
    TopColumn("mean", "Mean", 8, 2, right=True, sort=Sort.TIME),
    TopColumn(HISTORY, "History", 10, 6),
    TopColumn("requests", "Requests", REQUESTS_WIDTH, 7, right=True),
    TopColumn("errors", "Errors", ERRORS_WIDTH, 8, right=True),
    TopColumn("subject", "Subject", 10, 12, most=60, levels=frozenset({Level.ENDPOINTS, Level.ALL})),
    TopColumn("last_error", "Last error", 12, 11, most=60, keeps_end=False),
    TopColumn("metadata", "Metadata", 10, 13, most=80, levels=frozenset({Level.INSTANCES, Level.ALL}), keeps_end=False),
)
"""All columns, from left to right."""


def columns_of(level: Level, *, history: bool = True) -> list[TopColumn]:
    """Return the columns of a level, with sparklines or without, from left to right."""
    return [
        each for each in COLUMNS if (each.levels is None or level in each.levels) and (history or each.key != HISTORY)
    ]


def lay_out(rows: Iterable[Row], columns: Sequence[TopColumn], width: int) -> list[tuple[TopColumn, int]]:
    """Return those of the columns that fit into a width, each with its own width.

    The first that does not fit, in the order of importance, is left out with all that follow. Names grow before there are
    sparklines, totals and texts. Spare cells go to all texts, and then to versions and sparklines.
    """
    needs = _needs(rows)
    by_importance = sorted(columns, key=lambda each: each.importance)
    widths: dict[str, int] = {}
    spare = width + len(GAP)
    wanted = {each.key: min(each.most, needs.get(each.key, 0)) for each in by_importance}
    for column in by_importance:
        if column.importance > BEFORE_NAMES:
            spare = _grow(widths, {"name": min(wanted["name"], FIRST_NAME_CELLS)}, spare)
        least = min(column.width, max(needs.get(column.key, 0), len(column.title) + 1)) if column.most else column.width
        if len(GAP) + least > spare and widths:
            break
        widths[column.key] = min(least, spare - len(GAP))
        spare -= len(GAP) + least
    spare = _grow(widths, {"name": min(wanted["name"], FIRST_NAME_CELLS)}, spare)
    spare = _grow(widths, {key: cells for key, cells in wanted.items() if key != "version"}, spare)
    _grow(widths, {"version": wanted["version"], HISTORY: HISTORY_CELLS}, spare)
    return [(column, widths[column.key]) for column in columns if column.key in widths]


def _grow(widths: dict[str, int], wanted: Mapping[str, int], spare: int) -> int:
    """Give spare cells to columns one by one, always to the narrowest, so that one long text does not take all of them."""
    while spare > 0 and (growing := [key for key, cells in wanted.items() if widths.get(key, cells) < cells]):
        widths[min(growing, key=widths.__getitem__)] += 1
        spare -= 1
    return spare


def _needs(rows: Iterable[Row]) -> Mapping[str, int]:
    needs: dict[str, int] = {}
    for row in rows:
        for key, text in row.texts.items():
            needs[key] = max(needs.get(key, 0), cell_len(text))
    return needs
