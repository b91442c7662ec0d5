"""Figures as a person reads them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from natsery._cli._format import format_age, format_count, format_duration, format_rate, pluralize, printable


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0 ns"),
        (999, "999 ns"),
        (1_500, "1.5 µs"),
        (28_900, "28.9 µs"),
        (12_345_678, "12.3 ms"),
        (999_499, "999 µs"),
        (999_500, "1 ms"),
        (999_999_999, "1 s"),
        (999_960_000_000, "1000 s"),
        (2 * 10**12, "2000 s"),
    ],
)
def test_durations(nanoseconds: int, text: str) -> None:
    assert format_duration(nanoseconds) == text


@pytest.mark.parametrize(
    ("per_second", "text"),
    [
        (0, "0/s"),
        (1, "1/s"),
        (2.54, "2.5/s"),
        (12.6, "13/s"),
        (12_345, "12,345/s"),
        (0.5, "30/min"),
        (0.001, "3.6/h"),
        (2e-5, "1.7/d"),
    ],
)
def test_rates(per_second: float, text: str) -> None:
    assert format_rate(per_second) == text


@pytest.mark.parametrize(
    ("ago", "text"),
    [
        ({"seconds": 7.9}, "7s"),
        ({"seconds": 100}, "1m40s"),
        ({"hours": 3, "minutes": 59, "seconds": 59}, "3h59m"),
        ({"days": 400, "hours": 1}, "400d1h"),
        ({"seconds": -5}, "0s"),
    ],
)
def test_ages(ago: dict[str, float], text: str) -> None:
    now = datetime(2026, 11, 24, tzinfo=UTC)
    assert format_age(now - timedelta(**ago), now) == text
    assert format_age(datetime(1, 1, 1, tzinfo=UTC), now) == "?"


def test_counts() -> None:
    assert [pluralize(count, "request") for count in (0, 1)] == ["0 requests", "1 request"]
    assert pluralize(1_234, "error") == "1,234 errors"
    assert format_count(1_234_567) == "1,234,567"


def test_control_characters_are_shown() -> None:
    assert printable("a\x1b[2Jö\u202e\tb\nc") == "a\\x1b[2Jö\\u202e\\tb\nc"
