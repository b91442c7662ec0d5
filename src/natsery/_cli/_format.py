"""Figures and texts as a person reads them."""

from __future__ import annotations

from datetime import UTC, datetime


def format_duration(nanoseconds: float) -> str:
    """A duration with three digits or so, in the unit that suits it."""
    for unit, size in (("s", 1_000_000_000), ("ms", 1_000_000), ("µs", 1_000)):
        amount = nanoseconds / size
        if amount >= 0.9995:  # what three digits would round to the next unit belongs to it
            return f"{amount:.3g} {unit}" if amount < 999.5 else f"{amount:.0f} {unit}"
    return f"{nanoseconds:.0f} ns"


def format_count(count: int) -> str:
    """A whole number with its thousands apart."""
    return f"{count:,}"


def counted(count: int, noun: str) -> str:
    """A count with its noun, in the plural where it is one."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def format_rate(per_second: float) -> str:
    """Something per second, or per minute, hour or day where that reads better; two digits or more."""
    for unit, seconds in (("s", 1), ("min", 60), ("h", 3600)):
        amount = per_second * seconds
        if amount >= 1 or not amount:
            return f"{amount:,.0f}/{unit}" if amount >= 10 or not amount else f"{amount:.2g}/{unit}"
    return f"{per_second * 86400:.2g}/d"


def format_age(since: datetime, now: datetime) -> str:
    """How long ago a moment is, in its two largest units; ``"?"`` for one that no clock can have meant."""
    seconds = int((now - since).total_seconds())
    if since.year <= 1:
        return "?"
    if seconds < 0:  # their clock is ahead of ours
        return "0s"
    for unit, size, smaller, smaller_size in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if seconds >= size:
            return f"{seconds // size}{unit}{seconds % size // smaller_size}{smaller}"
    return f"{seconds}s"


def printable(text: str) -> str:
    r"""A text whose control characters are shown (``\x1b``), so that a terminal is not steered by it; lines stay lines."""
    return "".join(each if each.isprintable() or each == "\n" else repr(each)[1:-1] for each in text)


def now() -> datetime:
    """The time of day, in UTC."""
    return datetime.now(UTC)
