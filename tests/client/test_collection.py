"""When a collection of replies ends, to the moment."""

from __future__ import annotations

import math

import pytest

from natsery import EndReason
from natsery._client._collection import Collection


def collection(**options: object) -> Collection:
    return Collection(100.0, **{"wait": 2.0, "stall": None, "count": None, **options})  # type: ignore[arg-type]


def test_it_ends_with_the_wait_whether_anything_came_or_not() -> None:
    silent, busy = collection(), collection()
    for now in (100.0, 101.0, 101.999):
        assert busy.accept(now)
    for each in (silent, busy):
        assert each.deadline == 102.0
        each.expire(101.999)
        assert each.ended is None
        each.expire(102.0)
        assert each.ended is EndReason.WAIT
    assert not busy.accept(102.0)


def test_a_stall_counts_from_the_last_reply_and_not_before_the_first() -> None:
    stalling = collection(stall=0.5)
    assert stalling.deadline == 102.0
    assert stalling.accept(101.0)
    assert stalling.deadline == 101.5
    assert stalling.accept(101.25)
    assert stalling.deadline == 101.75
    stalling.expire(101.75)
    assert stalling.ended is EndReason.STALL


def test_the_wait_is_the_limit_of_stalls() -> None:
    stalling = collection(stall=0.5)
    assert stalling.accept(101.8)
    assert stalling.deadline == 102.0
    assert not stalling.accept(102.1)
    assert stalling.ended is EndReason.WAIT


def test_what_comes_after_a_stall_that_nobody_noticed_is_too_late() -> None:
    stalling = collection(stall=0.5)
    assert stalling.accept(100.0)
    assert not stalling.accept(100.6)
    assert stalling.ended is EndReason.STALL


def test_it_ends_with_the_count() -> None:
    counting = collection(count=2)
    assert counting.accept(100.0)
    assert counting.ended is None
    assert counting.accept(100.0)
    assert counting.ended is EndReason.COUNT
    assert not counting.accept(100.0)


def test_a_wait_may_be_endless() -> None:
    endless = collection(wait=math.inf, stall=math.inf)
    assert endless.accept(1e9)
    endless.expire(1e12)
    assert endless.ended is None


@pytest.mark.parametrize(
    ("options", "field", "kind"),
    [
        ({"wait": 0}, "wait", ValueError),
        ({"wait": math.nan}, "wait", ValueError),
        ({"wait": "1"}, "wait", TypeError),
        ({"stall": -1}, "stall", ValueError),
        ({"stall": 0}, "stall", ValueError),
        ({"count": 0}, "count", ValueError),
        ({"count": True}, "count", TypeError),
        ({"count": 1.5}, "count", TypeError),
    ],
)
def test_values_that_break_a_rule_are_named(options: dict[str, object], field: str, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=rf"^{field}: "):
        collection(**options)
