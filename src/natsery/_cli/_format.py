"""Numbers, times and texts in a form for people."""

from __future__ import annotations

from datetime import UTC, datetime


def format_duration(nanoseconds: float) -> str:
    """Format a duration with about three digits, in the unit that suits it."""
    for unit, size in (("s", 1_000_000_000), ("ms", 1_000_000), ("µs", 1_000)):
        amount = nanoseconds / size
        if amount >= 0.9995:  # rounded to three digits, it is 1 of this unit
            return f"{amount:.3g} {unit}" if amount < 999.5 else f"{amount:.0f} {unit}"
    return f"{nanoseconds:.0f} ns"


def format_count(count: int) -> str:
    """Format a whole number with commas between thousands."""
    return f"{count:,}"


def pluralize(count: int, noun: str, plural: str = "") -> str:
    """Format a count and its noun, in the plural unless it is one."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {plural or f'{noun}s'}"


def format_rate(per_second: float) -> str:
    """Format a rate per second, or per minute, hour or day if it is low, with at least two digits."""
    for unit, seconds in (("s", 1), ("min", 60), ("h", 3600)):
        amount = per_second * seconds
        if amount >= 1 or not amount:
            return f"{amount:,.0f}/{unit}" if amount >= 10 or not amount else f"{amount:.2g}/{unit}"
    return f"{per_second * 86400:.2g}/d"


def format_age(since: datetime, now: datetime) -> str:
    """Format the time since a moment in its two largest units; ``"?"`` for the year 1, which stands for an unknown one."""
    seconds = int((now - since).total_seconds())
    if since.year <= 1:
        return "?"
    if seconds < 0:  # the service's clock is ahead
        return "0s"
    for unit, size, smaller, smaller_size in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if seconds >= size:
            return f"{seconds // size}{unit}{seconds % size // smaller_size}{smaller}"
    return f"{seconds}s"


def printable(text: str, *, keep: str = "\n") -> str:
    r"""Escape control characters (``\x1b``), so that the text cannot control a terminal; line feeds stay."""
    return "".join(each if each.isprintable() or each in keep else repr(each)[1:-1] for each in text)


def one_line(text: str) -> str:
    r"""Escape control characters, line feeds (``\n``) too."""
    return printable(text).replace("\n", "\\n")


def format_time(moment: datetime) -> str:
    """Format a time as services do in JSON: RFC 3339 in UTC with a ``Z`` and microseconds."""
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)
