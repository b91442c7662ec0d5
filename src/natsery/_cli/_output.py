"""Printing for commands: coloured tables on a terminal, plain columns when piped, JSON for machines."""

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

from ._format import one_line, printable
from ._json_text import escape_json, lay_out_json


@final
@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: its heading.
        right: whether it is aligned to the right, as numbers are.
        whole: whether its cells are never wrapped, because users copy them; other columns are narrowed instead.
        style: the style of its cells on a terminal, in rich's words.
    """

    title: str
    right: bool = False
    whole: bool = False
    style: str = ""


def print_line(text: str = "") -> None:
    """Print one line to stdout. rich's markup is not interpreted, and control characters are shown, not sent."""
    _console().print(Text(one_line(text)), soft_wrap=True)


def print_error(text: str) -> None:
    """Print a line to stderr, such as an error or a warning."""
    Console(stderr=True, highlight=False).print(Text(printable(text)), soft_wrap=True)


def print_status(text: str, *, end: str = "\n") -> None:
    """Print a line about progress to stderr, and ignore that stderr is closed."""
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


def show_json_array(texts: Sequence[str]) -> None:
    """Print JSON texts as an array, each as it is; indented on a terminal, on one line when piped, escaped as above."""
    text = lay_out_json(f"[{','.join(texts)}]", _encoding(), indent=sys.stdout.isatty())
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _encoding() -> str:
    return sys.stdout.encoding or "utf-8"


def show_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, title: str = "") -> None:
    """Print a table. Control characters in cells are shown, not sent."""
    console = _console()
    cells = [[printable(cell).replace("\n", "\\n") for cell in row] for row in rows]
    if not console.is_terminal:
        if title:
            print_line(title)
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
    """Print columns two blanks apart. Nothing is wrapped or cut, so that scripts can rely on lines."""
    lines = [[column.title for column in columns], *rows]
    widths = [max(cell_len(line[index]) for line in lines) for index in range(len(columns))]
    for line in lines:
        padded = [
            " " * (width - cell_len(cell)) + cell if column.right else cell + " " * (width - cell_len(cell))
            for cell, width, column in zip(line, widths, columns, strict=True)
        ]
        print_line("  ".join(padded).rstrip())


def _console() -> Console:
    # A new one each time: stdout may have been replaced, and the terminal resized.
    return Console(highlight=False)
