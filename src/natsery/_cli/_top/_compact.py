"""Formats numbers for narrow columns, within a maximum of characters."""

from __future__ import annotations

from .._format import format_count, format_duration


def compact_count(count: int, width: int) -> str:
    """Format a whole number with commas if that fits into ``width``, else with `compact`."""
    text = format_count(count)
    return text if len(text) <= width else compact(count)


def compact(number: float) -> str:
    """Format a number that is not negative in at most seven characters, with about three digits."""
    if number == 0:
        return "0"
    if number < 0.005:
        return "<0.01"
    if number < 99.95:
        return f"{number:.2f}" if number < 9.995 else f"{number:.1f}"
    if number < 99_999.5:
        return f"{number:,.0f}"
    for unit, size in (("k", 1e3), ("M", 1e6), ("G", 1e9), ("T", 1e12), ("P", 1e15)):
        if number < 999.5 * size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.0e}"


def compact_duration(nanoseconds: float) -> str:
    """Format a duration in at most eight characters."""
    text = format_duration(nanoseconds)
    return text if len(text) <= 8 else f"{nanoseconds / 1e9:.0e} s"


def compact_share(share: float) -> str:
    """Format a share between 0 and 1 as a percentage in at most five characters."""
    percent = 100 * share
    if 0 < percent < 0.1:
        return "<0.1%"
    return f"{percent:.1f}%" if 0 < percent < 9.95 else f"{percent:.0f}%"
