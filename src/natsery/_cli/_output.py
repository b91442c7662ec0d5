"""Printing for commands: coloured tables on a terminal, plain columns when piped, JSON for machines."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, final

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from ._cells import Cells
from ._format import one_line, printable
from ._json_text import escape_json, lay_out_json

MAX_PADDED: Final = 200
"""The width up to which cells are padded where tables are piped: one endless text must not make all lines as long."""

LEAST_CELLS: Final = 8
"""The width down to which a column of a table is narrowed."""


@final
@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: its heading.
        right: whether it is aligned to the right, as numbers are.
        whole: whether it is narrowed only after all others have been, because users copy its cells. Numbers are never narrowed.
        style: the style of its cells on a terminal, in rich's words.
    """

    title: str
    right: bool = False
    whole: bool = False
    style: str = ""


def print_line(text: str = "") -> None:
    """Print one line to stdout. rich's markup is not interpreted, and control characters are shown, not sent."""
    stdout_console().print(Text(one_line(text)), soft_wrap=True)


def print_error(text: str) -> None:
    """Print a line to stderr, such as an error or a warning."""
    Console(stderr=True, highlight=False).print(Text(printable(text)), soft_wrap=True)


_status_writer: ContextVar[Callable[[str], None] | None] = ContextVar("_status_writer", default=None)


@contextmanager
def status_written_by(write: Callable[[str], None]) -> Iterator[None]:
    """Have lines about progress handed to a function, such as one that logs them, for the length of a block."""
    token = _status_writer.set(write)
    try:
        yield
    finally:
        _status_writer.reset(token)


def is_status_rewritable() -> bool:
    """Whether a line about progress can be written over."""
    console = Console(stderr=True)
    return _status_writer.get() is None and console.is_terminal and not console.is_dumb_terminal


def print_status(text: str, *, end: str = "\n") -> None:
    """Print a line about progress to stderr, and ignore that stderr is closed."""
    write = _status_writer.get()
    if write is not None:
        write(printable(text))
        return
    try:
        sys.stderr.write(f"{printable(text)}{end}")
        sys.stderr.flush()
    except OSError:
        # The terminal or the reader is gone. Neither the next line nor the interpreter's last flush may fail because of it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def show_json(value: Any, *, compact: bool = False) -> None:
    """Print a JSON value: indented on a terminal, on one line when piped, or ``compact`` on one line without blanks.

    What the terminal cannot show, or could take for a command, is escaped.
    """
    indent = 2 if sys.stdout.isatty() and not compact else None
    separators = (",", ":") if compact else None
    text = json.dumps(value, ensure_ascii=False, indent=indent, separators=separators)
    sys.stdout.write(f"{escape_json(text, _encoding())}\n")
    sys.stdout.flush()


def show_json_text(text: str, *, compact: bool = False) -> None:
    """Print a JSON text as it is: indented, or ``compact`` on one line; escaped as above."""
    sys.stdout.writelines(lay_out_json(text, _encoding(), indent=not compact))
    sys.stdout.write("\n")
    sys.stdout.flush()


def show_json_array(texts: Sequence[str]) -> None:
    """Print JSON texts as an array, each as it is; indented on a terminal, on one line when piped, escaped as above."""
    # Not as one text: there may be many megabytes of it.
    sys.stdout.writelines(lay_out_json(f"[{','.join(texts)}]", _encoding(), indent=sys.stdout.isatty()))
    sys.stdout.write("\n")
    sys.stdout.flush()


def _encoding() -> str:
    return sys.stdout.encoding or "utf-8"


def show_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, total: str = "") -> None:
    """Print a table, and on a terminal a line with totals below it. Control characters in cells are shown, not sent."""
    console = stdout_console()
    cells = [[one_line(cell) for cell in row] for row in rows]
    if not console.is_terminal:
        _show_plain(columns, cells)
        return
    for line in terminal_table(columns, cells, console.width, Cells(_encoding())):
        console.print(line, soft_wrap=True)
    if total:
        print_line(total)


def terminal_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int, cells: Cells) -> list[Text]:
    """Return the lines of a table in a width: one for the headings, and one for each row.

    What does not fit is cut off; in the first column and in those that are to be whole, different cells stay different.
    """
    titles = [each.title for each in columns]
    widths = [min(width, max(cell_len(line[index]) for line in (titles, *rows))) for index in range(len(columns))]
    least = [max(LEAST_CELLS, cell_len(title)) for title in titles]
    room = width - 2 * (len(columns) - 1)
    for narrow_whole in (False, True):
        _narrow(widths, [not each.right and (narrow_whole or not each.whole) for each in columns], least, room)
    shown = [
        cells.shorten_apart((row[index] for row in rows), widths[index]) if column.whole or index == 0 else {}
        for index, column in enumerate(columns)
    ]
    lines = [Text()]
    for index, (column, cell_width) in enumerate(zip(columns, widths, strict=True)):
        lines[0].append(("  " if index else "") + cells.fit(column.title, cell_width, right=column.right), style="bold")
    for row in rows:
        line = Text()
        for index, (column, cell_width) in enumerate(zip(columns, widths, strict=True)):
            text = shown[index].get(row[index], row[index])
            fitted = cells.fit(text, cell_width, right=column.right, keeps_end=False)
            line.append("  " if index else "")
            line.append(fitted, style=column.style)
        lines.append(line)
    for line in lines:
        line.rstrip()
    return lines


def _narrow(widths: list[int], may_narrow: Sequence[bool], least: Sequence[int], room: int) -> None:
    """Narrow columns one cell at a time, always the widest, until they fit or are as narrow as they may be."""
    while sum(widths) > room:
        wide = [index for index, may in enumerate(may_narrow) if may and widths[index] > least[index]]
        if not wide:
            return
        widths[max(wide, key=widths.__getitem__)] -= 1


def _show_plain(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print columns two blanks apart. Nothing is wrapped or cut, so that scripts can rely on lines."""
    lines = [[column.title for column in columns], *rows]
    widths = [min(MAX_PADDED, max(cell_len(line[index]) for line in lines)) for index in range(len(columns))]
    text = io.StringIO()
    for line in lines:
        padded = [
            " " * (width - cell_len(cell)) + cell if column.right else cell + " " * (width - cell_len(cell))
            for cell, width, column in zip(line, widths, columns, strict=True)
        ]
        text.write(f"{'  '.join(padded).rstrip()}\n")
    sys.stdout.write(text.getvalue())
    sys.stdout.flush()


def stdout_console() -> Console:
    """Return the console of stdout; a new one each time, since stdout may have been replaced, and the terminal resized."""
    console = Console(highlight=False)
    if console.is_dumb_terminal:
        console.size = shutil.get_terminal_size()  # rich takes it to have 80
    return console
