"""What a person has chosen to see of the services, and what each key does to that."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, final


@final
class Sort(StrEnum):
    """What rows are sorted by."""

    REQUESTS = "requests"
    ERRORS = "errors"
    TIME = "time"
    NAME = "name"


@final
class Level(StrEnum):
    """What has a row of its own."""

    SERVICES = "services"
    """Each service."""
    INSTANCES = "instances"
    """Each service, and below it its instances."""
    ENDPOINTS = "endpoints"
    """Each service, and below it its endpoints, each over all instances."""
    ALL = "all"
    """Each service, below it its instances, and below each of them its endpoints."""


@final
@dataclass(frozen=True)
class View:
    """What is to be seen.

    Attributes:
        sort: what rows are sorted by; figures with the largest first, names from A to Z.
        is_reversed: sorted the other way round.
        level: what has a row.
        offset: rows that are scrolled off the top.
        is_paused: the figures stay as they are.
        shows_help: the keys are explained instead.
        is_done: it is time to leave.
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
        """Which way the rows are sorted."""
        return (self.sort is not Sort.NAME) != self.is_reversed


_SORTS: Final = {"r": Sort.REQUESTS, "e": Sort.ERRORS, "t": Sort.TIME, "n": Sort.NAME}
_LEVELS: Final = tuple(Level)


def press(view: View, key: str, *, rows: int, page: int) -> View:
    """The view after a key was pressed.

    Args:
        view: the view before.
        key: a character, or the name of a key as `KeyReader` gives it.
        rows: how many rows there are.
        page: how many of them fit on the screen.
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
