"""Text in a terminal's cells."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from natsery._cli._cells import ASCII, LEAST_CELLS_APART, UNICODE, Cells

UTF8 = Cells("utf-8")


@pytest.mark.parametrize(
    ("text", "width", "short"),
    [
        ("short", 5, "short"),
        ("abcdefgh", 7, "abc…fgh"),
        ("abcdefgh", 6, "abc…gh"),
        ("abcdefgh", 2, "a…"),
        ("abcdefgh", 1, "…"),
        ("abcdefgh", 0, ""),
        ("日本語の名前", 12, "日本語の名前"),
        ("日本語の名前", 9, "日本…名前"),
        ("日本語の名前", 8, "日本…前"),
        ("日本語の名前", 7, "日…前"),
        ("🚀🚀🚀🚀", 4, "🚀…"),
        ("e\u0301e\u0301e\u0301e\u0301", 3, "e\u0301…e\u0301"),
    ],
)
def test_long_texts_lose_their_middle(text: str, width: int, short: str) -> None:
    assert UTF8.shorten(text, width) == short
    assert cell_len(short) <= width


def test_or_their_end() -> None:
    assert UTF8.shorten("500:Internal Server Error", 12, keeps_end=False) == "500:Interna…"
    assert UTF8.shorten("日本語の名前", 8, keeps_end=False) == "日本語…"


def test_a_text_fits_exactly() -> None:
    assert UTF8.fit("日本", 6) == "日本  "
    assert UTF8.fit("日本", 6, right=True) == "  日本"
    assert UTF8.fit("日本語の名前", 8) == "日本…前 "


def test_what_could_disturb_a_terminal_is_shown() -> None:
    assert UTF8.printable("a\x1b[31m\n\u202eb\ud800 größe 日本") == "a\\x1b[31m\\n\\u202eb\\ud800 größe 日本"


@pytest.mark.parametrize(
    ("values", "width", "line"),
    [
        ([], 3, "   "),
        ([1], 0, ""),
        ([0, 0], 2, "▁▁"),
        ([0, 1, 2, 3, 4, 5, 6, 7], 8, "▁▂▃▄▅▆▇█"),
        ([0.001, 1000], 2, "▂█"),
        ([1, None, 2], 5, "  ▅ █"),
        ([100, 1, 2], 2, "▅█"),
        ([None, None], 2, "  "),
    ],
)
def test_sparklines(values: list[float | None], width: int, line: str) -> None:
    assert UTF8.sparkline(values, width) == line


@pytest.mark.parametrize(
    ("encoding", "glyphs"), [("utf-8", UNICODE), ("utf-16", UNICODE), ("ascii", ASCII), ("latin-1", ASCII)]
)
def test_a_terminal_gets_what_its_encoding_has(encoding: str, glyphs: object) -> None:
    assert Cells(encoding).glyphs is glyphs


def test_what_an_encoding_lacks_is_a_question_mark_of_one_cell() -> None:
    assert Cells("latin-1").printable("größe 日本") == "größe ??"
    assert Cells("ascii").sparkline([0, 1, 7], 3) == "_.#"
    assert Cells("ascii").shorten("abcdefgh", 5) == "ab~gh"


@pytest.mark.parametrize("width", [8, 12, 20, 30])
def test_different_texts_stay_different(width: int) -> None:
    texts = [
        "orders",
        *(f"{'a' * start}{different}{'z' * 40}" for start in (0, 3, 30, 31) for different in ("bc", "bd", "東", "")),
    ]
    shown = Cells().shorten_apart(texts, width)
    assert shown.keys() == set(texts)
    assert len(set(shown.values())) == len(set(texts))
    assert all(cell_len(each) <= width for each in shown.values())


def test_texts_that_cannot_stay_different_are_shown_alike() -> None:
    assert set(Cells().shorten_apart(["abcdefgh1", "abcdefgh2"], 2).values()) == {"a…"}
    assert Cells().shorten_apart(["abc", "abd"], 3) == {"abc": "abc", "abd": "abd"}


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_texts_that_differ_in_several_places_stay_apart(encoding):
    """What told those of one beginning apart was the same as for those of another, and they were shown alike."""
    cells = Cells(encoding)
    texts = [f"abcdefg{first}{'-' * 10}{second}{'-' * 10}zzzzzzz" for first in "AB" for second in "12"]
    texts += [f"{text}{third}{'.' * 20}" for text in texts for third in "xy"]
    for width in range(LEAST_CELLS_APART, 40):
        shown = cells.shorten_apart([*texts, "abcde…1--------…"], width)
        assert len(set(shown.values())) == len(texts) + 1
        assert max(map(cell_len, shown.values())) <= width


@pytest.mark.parametrize("width", [8, 20])
def test_thousands_of_texts_of_which_each_goes_on_where_another_ends_stay_apart(width: int) -> None:
    """Each cut told a few of them apart, so that it took minutes, or was a RecursionError."""
    texts = [f"{'a' * number}b" for number in range(4_000)]
    shown = Cells().shorten_apart(texts, width)
    assert len(set(shown.values())) == len(texts)
    assert max(map(cell_len, shown.values())) <= width
