"""What commands print: tables and colour on a terminal, plain columns where it is piped, JSON for machines."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ._format import printable


@final
@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: its head.
        right: whether it is a column of figures, aligned to the right.
        whole: whether its cells are never wrapped, such as names to copy; the other columns give way.
        style: rich's style of its cells, on a terminal.
    """

    title: str
    right: bool = False
    whole: bool = False
    style: str = ""


def say(text: str = "") -> None:
    """Print a line of a command's output; markup stays as it is, and control characters are shown, not sent."""
    _console().print(Text(printable(text)), soft_wrap=True)


def complain(text: str) -> None:
    """Print a line that is not the output: a warning, or what is under way; to stderr."""
    Console(stderr=True, highlight=False).print(Text(printable(text)), soft_wrap=True)


def tell(text: str, *, end: str = "\n") -> None:
    """Print a line to stderr about what is under way, and go on if nobody reads it any more."""
    try:
        sys.stderr.write(f"{printable(text)}{end}")
        sys.stderr.flush()
    except OSError:
        # The terminal or the reader is gone: this is not to fail again, nor the interpreter when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def show_json(value: Any) -> None:
    """Print a JSON value, on one line where it is piped, indented on a terminal."""
    indent = 2 if sys.stdout.isatty() else None
    sys.stdout.write(f"{json.dumps(value, ensure_ascii=False, indent=indent)}\n")
    sys.stdout.flush()


def show_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, title: str = "") -> None:
    """Print a table; a cell's control characters are shown, not sent."""
    console = _console()
    cells = [[printable(cell).replace("\n", "\\n") for cell in row] for row in rows]
    if not console.is_terminal:
        if title:
            say(title)
        _show_plain(columns, cells)
        return
    table = Table(
        title=escape(title) if title else None, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0)
    )
    for column in columns:
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            style=column.style,
            header_style="bold",
            no_wrap=column.right or column.whole,
            overflow="fold",
        )
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)


def _show_plain(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Columns two blanks apart, as wide as they need; nothing is wrapped or cut, so that scripts can rely on lines."""
    lines = [[column.title for column in columns], *rows]
    widths = [max(cell_len(line[index]) for line in lines) for index in range(len(columns))]
    for line in lines:
        padded = [
            " " * (width - cell_len(cell)) + cell if column.right else cell + " " * (width - cell_len(cell))
            for cell, width, column in zip(line, widths, columns, strict=True)
        ]
        say("  ".join(padded).rstrip())


def _console() -> Console:
    # Made anew each time: stdout may be another one by then, and a terminal may have another width.
    return Console(highlight=False)
