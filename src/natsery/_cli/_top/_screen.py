"""Draws the screen of ``natsery top`` in a given number of columns and lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, final

from rich.cells import cell_len
from rich.text import Text

from .._cells import Cells
from .._format import pluralize
from ._columns import GAP, HISTORY, TopColumn, columns_of, lay_out
from ._figures import ServiceFigures
from ._rates import sum_rates
from ._rows import Row, rate_texts, rows_of
from ._view import Sort, View

MARGIN: Final = 5
"""Lines other than rows: three above the headings, the headings, and one below the rows."""

SORTED_BY: Final = {Sort.REQUESTS: "requests/s", Sort.ERRORS: "errors/s", Sort.TIME: "mean time", Sort.NAME: "name"}

HELP: Final = (
    ("q, Ctrl-C", "quit"),
    ("up, down, j, k", "scroll by a row"),
    ("PageUp, PageDown", "scroll by a page"),
    ("Home, End, g, G", "go to the first or the last row"),
    ("r", "sort by requests per second"),
    ("e", "sort by errors per second"),
    ("t", "sort by the mean time of a request"),
    ("n", "sort by name"),
    ("R", "reverse the order"),
    ("l, Enter", "show instances, or endpoints, or both, or services alone"),
    ("space", "pause, and continue"),
    ("?", "this help, and back"),
)

KEYS: Final = ("q quit", "r e t n sort", "R reverse", "l level", "space pause", "j k scroll", "? help")


@final
@dataclass(frozen=True, kw_only=True)
class ScreenState:
    """Everything that a screen depends on, except its size.

    Attributes:
        server: the servers of the connection.
        services: the figures to show.
        view: the part of the figures to show.
        interval: seconds between two rounds.
        now: the current time.
        message: a message, such as that the server is disconnected.
        is_disconnected: whether the server is disconnected, and the figures are old.
        malformed: the number of replies of the last round that could not be read.
        empty_text: the text without services.
        has_keys: whether keys can be read.
    """

    server: str
    services: Sequence[ServiceFigures]
    view: View
    interval: float
    now: datetime
    message: str = ""
    is_disconnected: bool = False
    malformed: int = 0
    empty_text: str = "No services answer."
    has_keys: bool = True


@final
@dataclass(frozen=True)
class Screen:
    """The lines of a screen, none wider than it.

    Attributes:
        lines: as many as the screen has.
        rows: the number of rows, shown or not.
        page: the number of rows that fit.
    """

    lines: list[Text]
    rows: int
    page: int


def draw(state: ScreenState, width: int, height: int, cells: Cells) -> Screen:
    """Draw the screen for a state."""
    page = max(1, height - MARGIN)
    rows = rows_of(state.services, state.view, cells, state.now)
    # The screen must not be empty after rows have disappeared.
    offset = max(0, min(state.view.offset, len(rows) - page))
    shown = rows[offset : offset + page]
    lines = [*_header(state, width, cells)]
    if state.view.shows_help:
        lines += [Text(cells.fit(f"  {key:<18}{meaning}", width)) for key, meaning in HELP]
    elif not rows:
        lines += [Text(), Text(cells.shorten(state.empty_text, width))]
    else:
        layout = lay_out(rows, columns_of(state.view.level), width)
        lines += table(shown, layout, state.view, cells, is_dim=state.is_disconnected)
    del lines[max(0, height - 1) :]
    lines += [Text()] * (height - 1 - len(lines))
    lines.append(_footer(state, len(rows), offset, len(shown), width, cells))
    return Screen(lines[-height:], len(rows), page)


def table(
    rows: Sequence[Row], layout: Sequence[tuple[TopColumn, int]], view: View, cells: Cells, *, is_dim: bool = False
) -> list[Text]:
    """Return the headings of columns, and the rows below them."""
    name_width = next((width for column, width in layout if column.key == "name"), 0)
    names = cells.shorten_apart((row.texts["name"] for row in rows), name_width)
    return [
        _headings(layout, view, cells),
        *(_line(row, names, layout, cells, is_dim=is_dim or row.is_stale) for row in rows),
    ]


def _header(state: ScreenState, width: int, cells: Cells) -> list[Text]:
    view, glyphs = state.view, cells.glyphs
    order = f"by {SORTED_BY[view.sort]}{', reversed' if view.is_reversed else ''}"
    settings = [f"every {state.interval:g} s", order, *(["paused"] if view.is_paused else [])]
    right = glyphs.separator.join(settings)
    title = "natsery top"
    # The server is shortened rather than the rest, which keys change.
    room = width - cell_len(title) - cell_len(right) - 2 * len(GAP)
    server = cells.shorten(cells.printable(state.server), max(0, room))
    first = Text(title, style="bold")
    first.append(GAP + server + " " * (room - cell_len(server)) + GAP + right, style="not bold")
    if room < 0:
        first = Text(_join([title, *settings], GAP, width))

    instances = [each for service in state.services for each in service.instances]
    answering = sum(not each.is_stale for each in instances)
    total = sum_rates(each.rates for each in state.services)
    texts = rate_texts(total, cells)
    answering_text = f"{answering} of " if answering != len(instances) else ""
    parts = [pluralize(len(state.services), "service"), f"{answering_text}{pluralize(len(instances), 'instance')}"]
    if total is not None:
        share = f" ({texts['error_share']})" if total.requests else ""
        parts += [f"{texts['rate']} req/s", f"{texts['error_rate']} err/s{share}"]
        parts += [f"mean {texts['mean']}"] if total.requests else []
    notices = [cells.printable(state.message)] if state.message else []
    if state.malformed:
        notices.append(f"{pluralize(state.malformed, 'answer')} could not be read")
    return [
        first,
        Text(_join(parts, glyphs.separator, width)),
        Text(cells.shorten(glyphs.separator.join(notices), width, keeps_end=False), style="bold yellow"),
    ]


def _headings(layout: Sequence[tuple[TopColumn, int]], view: View, cells: Cells) -> Text:
    line = Text(style="reverse")
    for index, (column, width) in enumerate(layout):
        mark = ""
        if column.sort is view.sort:
            mark = cells.glyphs.down if view.largest_first else cells.glyphs.up
        line.append((GAP if index else "") + cells.fit(column.title + mark, width, right=column.right))
    return line


def _line(
    row: Row, names: Mapping[str, str], layout: Sequence[tuple[TopColumn, int]], cells: Cells, *, is_dim: bool
) -> Text:
    line = Text(style="dim" if is_dim else "")
    for index, (column, width) in enumerate(layout):
        text = cells.sparkline(row.history, width) if column.key == HISTORY else row.texts.get(column.key, "")
        if column.key == "name":
            text = names[text]
        line.append(GAP if index else "")
        fitted = cells.fit(text, width, right=column.right, keeps_end=column.keeps_end)
        line.append(fitted, style="" if is_dim else _style(column.key, row))
    line.rstrip()
    return line


def _style(key: str, row: Row) -> str:
    if key == "name" and row.is_service:
        return "bold"
    if key in ("error_rate", "error_share") and row.has_errors:
        return "bold red"
    return {HISTORY: "cyan", "last_error": "red", "metadata": "dim", "subject": "dim"}.get(key, "")


def _footer(state: ScreenState, rows: int, offset: int, shown: int, width: int, cells: Cells) -> Text:
    right = f"{offset + 1} to {offset + shown} of {rows}" if shown < rows and not state.view.shows_help else ""
    if len(right) + len(GAP) > width:
        right = ""
    room = width - (len(GAP) + len(right) if right else 0)
    keys = KEYS if state.has_keys else ("Ctrl-C quits; keys cannot be read here",)
    left = _join(keys, GAP, room)
    return Text(cells.fit(left, room) + (GAP + right if right else ""), style="dim")


def _join(parts: Sequence[str], separator: str, width: int) -> str:
    """Join as many parts as fit."""
    joined = ""
    for part in parts:
        longer = f"{joined}{separator}{part}" if joined else part
        if cell_len(longer) > width:
            break
        joined = longer
    return joined
