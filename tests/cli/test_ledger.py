"""What the exporter adds up, from one reply to the next."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

import natsery
from natsery._cli._export._ledger import MAX_TEXT, SHOWN_SECONDS, Figures, Ledger

from .figures import STARTED, endpoint, stats

LATER = STARTED + timedelta(seconds=1)
ADD = ("add", "math.add", "q")


def totals(ledger: Ledger, now: float = 0) -> list[dict[tuple[str, str, str], Figures]]:
    return [each.totals() for each in ledger.shown(now)]


def total_after(*rounds: natsery.ServiceStats) -> Figures:
    """The only endpoint's, after one reply in each round."""
    ledger = Ledger(100)
    for each in rounds:
        ledger.add([each], 0)
    ((figures,),) = [each.values() for each in totals(ledger)]
    return figures


def test_what_was_done_before_it_was_first_seen_counts():
    assert total_after(stats(endpoint(5, 1, 700))) == Figures(5, 1, 700)
    assert total_after(stats(endpoint(5, 1, 700)), stats(endpoint(7, 1, 900))) == Figures(7, 1, 900)


def test_a_reset_is_seen_by_the_start():
    before, after = stats(endpoint(5, 1, 700)), stats(endpoint(6, 2, 800), started=LATER)
    assert total_after(before, after, after) == Figures(11, 3, 1500)


def test_a_reset_is_seen_by_a_counter_that_goes_down():
    """async-nats keeps ``started`` at a reset."""
    assert total_after(stats(endpoint(5, 1, 700)), stats(endpoint(2, 0, 300))) == Figures(7, 1, 1000)


def test_counters_outside_their_range_are_the_nearest_inside():
    assert total_after(stats(endpoint(-5, 2**70, -1))) == Figures(0, 2**64 - 1, 0)


def test_endpoints_that_differ_in_nothing_are_counted_apart_and_shown_as_one():
    twice = stats(endpoint(5), endpoint(100))
    again = stats(endpoint(6), endpoint(3))
    assert total_after(twice, again) == Figures(109, 0, 0)


def test_endpoints_of_one_name_are_apart_by_subject_and_queue_group():
    ledger = Ledger(100)
    ledger.add([stats(endpoint(1), endpoint(2, subject="x"), endpoint(3, queue_group=""))], 0)
    assert totals(ledger) == [
        {ADD: Figures(1), ("add", "x", "q"): Figures(2), ("add", "math.add", ""): Figures(3)},
    ]


def test_an_endpoint_that_is_missing_in_a_reply_goes_on_afterwards():
    assert total_after(stats(endpoint(5)), stats(), stats(endpoint(6))) == Figures(6)
    assert total_after(stats(endpoint(5)), stats(started=LATER), stats(endpoint(6), started=LATER)) == Figures(11)


def test_instances_are_apart_by_service_version_and_id():
    ledger = Ledger(100)
    ledger.add([stats(endpoint(1)), stats(instance="two"), stats(version="2.0.0"), stats(name="other")], 0)
    assert [(each.name, each.version, each.id) for each in ledger.shown(0)] == [
        ("calc", "1.0.0", "one"),
        ("calc", "1.0.0", "two"),
        ("calc", "2.0.0", "one"),
        ("other", "1.0.0", "one"),
    ]


def test_one_that_is_gone_is_down_then_not_shown_and_goes_on_when_it_comes_back():
    ledger = Ledger(100)
    ledger.add([stats(endpoint(5)), stats(instance="two")], 0)
    ledger.add([stats(instance="two")], SHOWN_SECONDS)
    assert [(each.id, each.is_up) for each in ledger.shown(SHOWN_SECONDS)] == [("one", False), ("two", True)]
    assert [each.id for each in ledger.shown(SHOWN_SECONDS + 1)] == ["two"]
    ledger.add([stats(endpoint(2), started=LATER)], SHOWN_SECONDS + 2)
    one, two = ledger.shown(SHOWN_SECONDS + 2)
    assert (one.is_up, one.totals(), two.is_up) == (True, {ADD: Figures(7)}, False)


def test_what_is_beyond_the_limit_is_left_out_and_counted():
    ledger = Ledger(6)
    many = [stats(endpoint(1), endpoint(2, name="sub")), stats(endpoint(3), instance="two")]
    for _ in range(2):
        ledger.add(many, 0)
        assert ledger.beyond_limit == 3 + 5
        assert totals(ledger) == [{ADD: Figures(1)}]
    ledger.add(many[:1], 0)
    assert ledger.beyond_limit == 3


def test_those_that_are_not_shown_any_more_make_room_the_oldest_first():
    ledger = Ledger(10)
    ledger.add([stats(endpoint(1)), stats(endpoint(1), instance="two")], 0)
    ledger.add([stats(endpoint(2))], 1)
    ledger.add([stats(endpoint(1), instance="three")], SHOWN_SECONDS + 0.5)
    assert ledger.beyond_limit == 0
    assert [each.id for each in ledger.shown(SHOWN_SECONDS + 0.5)] == ["one", "three"]
    ledger.add([stats(endpoint(1), instance="four")], SHOWN_SECONDS + 0.5)
    assert ledger.beyond_limit == 5


@pytest.mark.parametrize(
    "odd",
    [
        stats(endpoint(), name="a b"),
        stats(endpoint(), name=""),
        stats(endpoint(), name="a\n"),
        stats(endpoint(), name="a" * (MAX_TEXT + 1)),
        stats(endpoint(), instance="a.b"),
        stats(endpoint(), instance="\ud800"),
        stats(endpoint(), instance="a" * (MAX_TEXT + 1)),
        stats(endpoint(), version="1\x1b[31m"),
        stats(endpoint(), version="\udfff"),
        stats(endpoint(), version="1" * (MAX_TEXT + 1)),
    ],
)
def test_instances_with_odd_names_are_refused(odd):
    ledger = Ledger(100)
    ledger.add([odd, stats()], 0)
    assert (ledger.refused, ledger.beyond_limit) == (5, 0)
    assert totals(ledger) == [{}]


@pytest.mark.parametrize(
    "odd",
    [
        endpoint(name="a b"),
        endpoint(name="a.b"),
        endpoint(name="\ud800"),
        endpoint(subject="a\nb"),
        endpoint(subject="\udfff"),
        endpoint(subject="a" * (MAX_TEXT + 1)),
        endpoint(queue_group="\0"),
    ],
)
def test_endpoints_with_odd_names_are_refused(odd):
    ledger = Ledger(100)
    ledger.add([stats(odd, endpoint(1))], 0)
    assert ledger.refused == 3
    assert totals(ledger) == [{ADD: Figures(1)}]


REPLIES = st.builds(
    lambda instance, started, endpoints: stats(
        *(endpoint(*figures, name=name) for name, figures in endpoints),
        instance=instance,
        started=STARTED + timedelta(seconds=started),
    ),
    st.sampled_from("ab"),
    st.integers(0, 2),
    st.lists(st.tuples(st.sampled_from("xy"), st.tuples(*[st.integers(-1, 5)] * 3)), max_size=3),
)


@given(st.lists(st.tuples(st.lists(REPLIES, max_size=3), st.sampled_from([1, SHOWN_SECONDS, 2 * SHOWN_SECONDS]))))
def test_no_counter_goes_backwards_whatever_peers_say(rounds):
    ledger, now = Ledger(1000), 0.0
    before: dict[object, Figures] = {}
    for replies, seconds in rounds:
        now += seconds
        ledger.add(replies, now)
        for instance in ledger.shown(now):
            for key, after in instance.totals().items():
                known = before.get((instance.id, key), Figures())
                assert after.requests >= known.requests
                assert after.errors >= known.errors
                assert after.processing_time >= known.processing_time
                before[instance.id, key] = after


def test_its_books_balance_when_instances_come_and_go():
    ledger = Ledger(50)
    for number in range(100):
        many = [stats(endpoint(1), endpoint(2), instance=f"{number}-{each}") for each in range(number % 5)]
        ledger.add(many, number * SHOWN_SECONDS / 2)
        counted = sum(2 + 3 * len(each._endpoints) for each in ledger._instances.values())
        assert ledger._series == counted <= 50


def test_a_start_that_is_unknown_is_no_reset():
    known, unknown = stats(endpoint(5)), stats(endpoint(5), started=STARTED.replace(year=1))
    for replies in ([unknown, unknown], [unknown, known], [known, unknown, known]):
        assert total_after(*replies) == Figures(5)
