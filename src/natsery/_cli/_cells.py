"""Fits text into the cells of a terminal, and draws sparklines."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, final

from rich.cells import cell_len

from ._format import printable


@final
@dataclass(frozen=True)
class Glyphs:
    """Characters outside ASCII for terminals that can show them, or their replacements.

    Attributes:
        bars: a sparkline's levels, lowest first.
        ellipsis: the mark where a text was shortened.
        nothing: the text of a cell without a value.
        down: the mark of a column that is sorted with the largest first.
        up: the mark of one that is sorted with the smallest first.
        separator: the text between parts of a line.
        micro: the prefix of a microsecond.
    """

    bars: str
    ellipsis: str
    nothing: str
    down: str
    up: str
    separator: str
    micro: str


UNICODE: Final = Glyphs(bars="▁▂▃▄▅▆▇█", ellipsis="…", nothing="–", down="▼", up="▲", separator=" · ", micro="µ")
ASCII: Final = Glyphs(bars="_.-:=+*#", ellipsis="~", nothing="-", down="v", up="^", separator=" | ", micro="u")


MOST_CUTS: Final = 8
"""How often texts are cut in another place to tell them apart; those that are still alike are numbered."""

LEAST_CELLS_APART: Final = 8
"""The width below which different texts may be shown alike."""


@final
class Cells:
    """Fits text into the cells of a terminal with a given encoding.

    Args:
        encoding: the terminal's, such as ``"utf-8"``.
    """

    def __init__(self, encoding: str = "utf-8") -> None:
        self._encoding = encoding
        self.glyphs: Glyphs = UNICODE if _can_encode("".join(map(str, vars(UNICODE).values())), encoding) else ASCII

    def printable(self, text: str) -> str:
        """Escape control characters and newlines, and replace what the terminal cannot show with ``?``."""
        return printable(text).replace("\n", "\\n").encode(self._encoding, "replace").decode(self._encoding)

    def shorten(self, text: str, width: int, *, keeps_end: bool = True) -> str:
        """Shorten a text to ``width`` cells by leaving out its middle, or with ``keeps_end=False`` its end."""
        if cell_len(text) <= width:
            return text
        room = width - cell_len(self.glyphs.ellipsis)
        if room < 0:
            return ""
        tail = room // 2 if keeps_end else 0
        return _first_cells(text, room - tail) + self.glyphs.ellipsis + _last_cells(text, tail)

    def shorten_apart(self, texts: Iterable[str], width: int) -> dict[str, str]:
        """Shorten texts so that those which differ still do: what they have in common is left out where need be."""
        shown: dict[str, str] = {}
        self._shorten_apart(sorted(set(texts)), width, shown, lambda text: self.shorten(text, width), MOST_CUTS)
        if width >= LEAST_CELLS_APART:
            self._number_alike(shown, width)
        return shown

    def _number_alike(self, shown: dict[str, str], width: int) -> None:
        """Number what is still shown alike, such as texts that differ in more places than there is room for."""
        groups: dict[str, list[str]] = {}
        for text, short in sorted(shown.items()):
            groups.setdefault(short, []).append(text)
        used = set(groups)
        for short, members in groups.items():
            number = 0
            for text in members if len(members) > 1 else ():
                while shown[text] in used:
                    number += 1
                    mark = f"{self.glyphs.ellipsis}{number}"
                    shown[text] = _first_cells(short, width - cell_len(mark)).rstrip(self.glyphs.ellipsis) + mark
                used.add(shown[text])

    def _shorten_apart(
        self, texts: list[str], width: int, shown: dict[str, str], shorten: Callable[[str], str], cuts: int
    ) -> None:
        """Add what is shown of different texts, each shortened like this as far as that tells them apart."""
        groups: dict[str, list[str]] = {}
        for text in texts:
            groups.setdefault(shorten(text), []).append(text)
        for short, members in groups.items():
            if len(members) == 1 or width < LEAST_CELLS_APART or cuts == 1:
                shown.update(dict.fromkeys(members, short))
                continue
            # From where they differ; the beginning says what they are.
            start = _common_start(members)

            def shorten_from(text: str, start: int = start) -> str:
                if start <= width // 3:
                    return self.shorten(text, width, keeps_end=False)
                beginning = _first_cells(text[:start], width // 3)
                room = width - cell_len(beginning) - cell_len(self.glyphs.ellipsis)
                return f"{beginning}{self.glyphs.ellipsis}{self.shorten(text[start:], room, keeps_end=False)}"

            self._shorten_apart(members, width, shown, shorten_from, cuts - 1)

    def fit(self, text: str, width: int, *, right: bool = False, keeps_end: bool = True) -> str:
        """Shorten a text, or pad it with blanks, to exactly ``width`` cells."""
        text = self.shorten(text, width, keeps_end=keeps_end)
        blanks = " " * (width - cell_len(text))
        return blanks + text if right else text + blanks

    def sparkline(self, values: Sequence[float | None], width: int) -> str:
        """Draw the last ``width`` values as bars in proportion to the largest of them, and unknown ones as blanks.

        Only zero gets the lowest bar. The line is padded on the left.
        """
        shown = values[-width:] if width > 0 else ()
        largest = max((each for each in shown if each is not None), default=0.0)
        bars = self.glyphs.bars
        steps = len(bars) - 1
        drawn = [
            " " if each is None else bars[0] if each <= 0 else bars[math.ceil(each / largest * steps)] for each in shown
        ]
        return "".join(drawn).rjust(max(width, 0))


def _common_start(texts: Sequence[str]) -> int:
    """Return how many characters all texts begin with."""
    first, last = min(texts), max(texts)
    return next((index for index, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))


def _can_encode(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _first_cells(text: str, width: int) -> str:
    """Return as many of the first characters as fit, with the combining marks of the last of them."""
    taken = 0
    for index, each in enumerate(text):
        taken += cell_len(each)
        if taken > width:
            return text[:index]
    return text


def _last_cells(text: str, width: int) -> str:
    """Return as many of the last characters as fit, without combining marks whose base is left out."""
    taken, start = 0, len(text)
    while start > 0 and taken + cell_len(text[start - 1]) <= width:
        start -= 1
        taken += cell_len(text[start])
    while start < len(text) and cell_len(text[start]) == 0:
        start += 1
    return text[start:]
