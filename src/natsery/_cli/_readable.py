"""Figures and texts as a person reads them."""

from __future__ import annotations

from datetime import UTC, datetime


def readable_duration(nanoseconds: float) -> str:
    """A duration with three digits or so, in the unit that suits it."""
    for unit, size in (("s", 1_000_000_000), ("ms", 1_000_000), ("µs", 1_000)):
        if nanoseconds >= size:
            return (
                f"{nanoseconds / size:.3g} {unit}" if nanoseconds < 1000 * size else f"{nanoseconds / size:.0f} {unit}"
            )
    return f"{nanoseconds:.0f} ns"


def readable_count(count: int) -> str:
    """A whole number with its thousands apart."""
    return f"{count:,}"


def readable_rate(per_second: float) -> str:
    """Something per second: three digits or so below a thousand, whole above."""
    return f"{per_second:,.0f}/s" if per_second >= 1000 or per_second == int(per_second) else f"{per_second:.3g}/s"


def readable_age(since: datetime, now: datetime) -> str:
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
