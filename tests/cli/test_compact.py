"""Figures for narrow columns."""

from __future__ import annotations

import pytest

from natsery._cli._top._compact import compact, compact_count, compact_duration, compact_share


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (0.001, "<0.01"),
        (0.25, "0.25"),
        (9.994, "9.99"),
        (9.996, "10.0"),
        (99.96, "100"),
        (1_234.5, "1,234"),
        (99_999.4, "99,999"),
        (99_999.6, "100k"),
        (999_600, "1M"),
        (12_345_678, "12.3M"),
        (5e9, "5G"),
        (1e25, "1e+25"),
    ],
)
def test_numbers(number: float, text: str) -> None:
    assert compact(number) == text
    assert len(text) <= 7


def test_counts_have_thousands_apart_where_there_is_room() -> None:
    assert compact_count(1_234_567, 9) == "1,234,567"
    assert compact_count(1_234_567, 8) == "1.23M"
    assert compact_count(2**64 - 1, 10) == "2e+19"


def test_durations() -> None:
    assert compact_duration(12_345_678) == "12.3 ms"
    assert compact_duration(123_456 * 10**9) == "123456 s"
    assert compact_duration(1.8e19 * 1000) == "2e+13 s"


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0%"), (0.0001, "<0.1%"), (0.0123, "1.2%"), (0.0996, "10%"), (0.123, "12%"), (1, "100%")],
)
def test_shares(share: float, text: str) -> None:
    assert compact_share(share) == text
