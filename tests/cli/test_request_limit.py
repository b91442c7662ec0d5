"""When a worker has ended enough requests."""

from __future__ import annotations

from natsery._cli._run._request_limit import RequestLimit


def reached(limit: RequestLimit, *counts: int) -> list[bool]:
    return [limit.is_reached(count) for count in counts]


def test_it_is_reached_again_after_as_many_more() -> None:
    assert reached(RequestLimit(10), 0, 9, 10, 11, 19, 20, 45, 54) == [
        False,
        False,
        True,
        False,
        False,
        True,
        True,
        False,
    ]


def test_statistics_that_are_reset_are_counted_on() -> None:
    assert reached(RequestLimit(10), 6, 3, 1, 1) == [False, False, True, False]


def test_the_jitter_is_added_and_differs() -> None:
    limits = {RequestLimit(10, 5)._limit for _ in range(1000)}
    assert limits == set(range(10, 16))
