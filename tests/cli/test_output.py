"""Tables on a terminal."""

from __future__ import annotations

import io
import os
import shutil
import sys

import pytest
from rich.cells import cell_len

from natsery._cli._cells import Cells
from natsery._cli._output import Column, show_table, stdout_console, terminal_table

COLUMNS = (
    Column("Service", whole=True),
    Column("Version"),
    Column("Instances", right=True),
    Column("Description"),
)
LONG = "order-processing-and-fulfilment-service-for-the-whole-of-{}-v2"
ROWS = [
    ("calc", "1.0.0, 1.1.0", "2", "Arithmetic on whole numbers"),
    (LONG.format("europe"), "2.0.0-beta.1+build.2026", "12", "東京 " * 20),
    (LONG.format("africa"), "2.0.0", "1", "Orders"),
]


def table(width: int, rows: list[tuple[str, ...]] = ROWS) -> list[str]:
    lines = [each.plain for each in terminal_table(COLUMNS, rows, width, Cells())]
    assert all(cell_len(each) <= width for each in lines)
    return lines


def test_what_fits_is_shown() -> None:
    assert table(80, ROWS[:1]) == [
        "Service  Version       Instances  Description",
        "calc     1.0.0, 1.1.0          2  Arithmetic on whole numbers",
    ]


def test_a_line_for_each_entry_at_80_columns() -> None:
    """Names were broken in the middle, over several lines."""
    assert table(80) == [
        "Service                                         Version   Instances  Description",
        "calc                                            1.0.0, …          2  Arithmetic…",
        "order-processing-and-fu…the-whole-of-europe-v2  2.0.0-b…         12  東京 東京 …",
        "order-processing-and-fu…the-whole-of-africa-v2  2.0.0             1  Orders",
    ]


def test_different_names_stay_different_and_numbers_whole() -> None:
    for width in range(55, 90):
        lines = table(width)
        assert len({line.split()[0] for line in lines}) == 4
        assert [line.split()[-2].isdigit() for line in lines][-1]


def test_the_first_column_stays_different_beside_one_that_is_whole() -> None:
    columns = (Column("Service"), Column("Instance", whole=True))
    rows = [(LONG.format(where), "x3Yuiq7g7MoxhXdxk7i4K7") for where in ("europe", "africa")]
    _, one, other = (each.plain for each in terminal_table(columns, rows, 50, Cells()))
    assert one.split()[0] != other.split()[0]
    assert one.endswith("  x3Yuiq7g7MoxhXdxk7i4K7")


def test_an_endless_text_costs_no_more_than_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """Every line of a table was as long as the longest name."""
    rows = [("x" * 1_000_000, "1", "1", "a"), *[("calc", "1", "1", "a")] * 1_000]
    show_table(COLUMNS, rows)
    assert len(capsys.readouterr().out) < 2_000_000
    assert len(table(80, rows)) == 1_002


def test_ascii() -> None:
    lines = [each.plain for each in terminal_table(COLUMNS, ROWS, 60, Cells("ascii"))]
    assert "~" in lines[2]
    assert "…" not in "".join(lines)


@pytest.mark.parametrize("width", [40, 120])
def test_a_dumb_terminal_has_its_own_width(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was taken to have 80 columns, so that lines were wrapped or cut in the middle."""
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda **_: os.terminal_size((width, 24)))
    monkeypatch.setenv("TERM", "dumb")
    for name in ("COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    assert stdout_console().width == width
    show_table((Column("A", whole=True), Column("B")), [("a" * 100, "b" * 100)])
    assert max(map(len, terminal.getvalue().splitlines())) == width
