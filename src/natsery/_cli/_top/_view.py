"""The view of the services that the user has chosen, and how keys change it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, final


@final
class Sort(StrEnum):
    """The order of rows."""

    REQUESTS = "requests"
    ERRORS = "errors"
    TIME = "time"
    NAME = "name"


@final
class Level(StrEnum):
    """The kinds of rows."""

    SERVICES = "services"
    """Services."""
    INSTANCES = "instances"
    """Services, and below each its instances."""
    ENDPOINTS = "endpoints"
    """Services, and below each its endpoints, summed over all instances."""
    ALL = "all"
    """Services, below each its instances, and below each of those its endpoints."""


@final
@dataclass(frozen=True)
class View:
    """The part of the figures to show, and how.

    Attributes:
        sort: the order of rows: largest values first, names from A to Z.
        is_reversed: whether the order is reversed.
        level: the kinds of rows.
        offset: the number of rows above the first one that is shown.
        is_paused: whether the figures are not updated.
        shows_help: whether the help is shown instead.
        is_done: whether the user has quit.
    """

    sort: Sort = Sort.REQUESTS
    is_reversed: bool = False
    level: Level = Level.SERVICES
    offset: int = 0
    is_paused: bool = False
    shows_help: bool = False
    is_done: bool = False

    @property
    def largest_first(self) -> bool:
        """Whether the rows are sorted with the largest, or the last in the alphabet, first."""
        return (self.sort is not Sort.NAME) != self.is_reversed


_SORTS: Final = {"r": Sort.REQUESTS, "e": Sort.ERRORS, "t": Sort.TIME, "n": Sort.NAME}
_LEVELS: Final = tuple(Level)


def apply_key(view: View, key: str, *, rows: int, page: int) -> View:
    """Return the view after a key was pressed.

    Args:
        view: the view before.
        key: a character, or the name of a key from `KeyReader`.
        rows: the number of rows.
        page: the number of rows that fit on the screen.
    """
    if key in ("q", "Q", "interrupt"):
        return replace(view, is_done=True)
    if view.shows_help or key in ("?", "h"):
        return replace(view, shows_help=not view.shows_help)
    if key in _SORTS:
        return replace(view, sort=_SORTS[key], is_reversed=False, offset=0)
    if key == "R":
        return replace(view, is_reversed=not view.is_reversed, offset=0)
    if key == " ":
        return replace(view, is_paused=not view.is_paused)
    if key in ("l", "enter"):
        return replace(view, level=_LEVELS[(_LEVELS.index(view.level) + 1) % len(_LEVELS)], offset=0)
    last = max(0, rows - page)
    offsets = {
        "up": view.offset - 1,
        "k": view.offset - 1,
        "down": view.offset + 1,
        "j": view.offset + 1,
        "page up": view.offset - page,
        "page down": view.offset + page,
        "home": 0,
        "g": 0,
        "end": last,
        "G": last,
    }
    return replace(view, offset=max(0, min(offsets.get(key, view.offset), last)))
