"""What is measured from one STATS answer to the next; also with answers that nobody should give."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta

import pytest

from natsery import EndpointStats, ServiceStats
from natsery._cli._top import _rates
from natsery._cli._top._figures import InstanceFigures, Rates, ServiceFigures
from natsery._cli._top._rates import HISTORY, ROUNDS_UNTIL_GONE, Meter

from .figures import STARTED, endpoint, stats


def rounds(*answers: tuple[float, list[ServiceStats]]) -> Meter:
    """A meter that has had rounds, with the time of all answers of each."""
    meter = Meter()
    for now, given in answers:
        for each in given:
            meter.add(each, now)
        meter.end_round()
    return meter


def calc(meter: Meter) -> ServiceFigures:
    (service,) = meter.figures()
    return service


def one(meter: Meter) -> InstanceFigures:
    (instance,) = calc(meter).instances
    return instance


def test_nobody() -> None:
    assert rounds((0, [])).figures() == ()


def test_nothing_is_known_from_one_answer_but_totals() -> None:
    instance = one(rounds((0, [stats(endpoint(10, 1, 500, "500:x"))])))
    assert (instance.num_requests, instance.num_errors, instance.last_error) == (10, 1, "500:x")
    assert instance.rates is None
    assert instance.endpoints[0].rates is None
    assert instance.history == (None,)
    assert not instance.is_stale


def test_rates_are_differences_over_time() -> None:
    service = calc(
        rounds(
            (0, [stats(endpoint(10, 1, 500), endpoint(7, name="b"))]),
            (2, [stats(endpoint(30, 6, 4_500, "400:y"), endpoint(7, name="b"))]),
        )
    )
    add, b = service.endpoints
    assert add.rates == Rates(10, 2.5, 2_000)
    assert (add.rates.error_share, add.rates.mean_time) == (0.25, 200)
    assert b.rates == Rates(0, 0, 0)
    assert (b.rates.error_share, b.rates.mean_time) == (None, None)
    (instance,) = service.instances
    assert [each.rates for each in instance.endpoints] == [add.rates, b.rates]
    assert service.rates == instance.rates == add.rates
    assert service.history == instance.history == add.history == (None, 10)


def test_the_rates_of_a_service_are_the_sums_over_its_instances_each_with_its_own_time() -> None:
    meter = Meter()
    meter.add(stats(endpoint(0, 0, 0)), 0)
    meter.add(stats(endpoint(0, 0, 0), instance="two"), 0.9)
    meter.end_round()
    meter.add(stats(endpoint(10, 0, 1_000)), 1)  # 10 a second, 100 ns each
    meter.add(stats(endpoint(20, 4, 8_000), instance="two"), 1.4)  # 40 a second, 400 ns each
    meter.end_round()
    service = calc(meter)
    assert service.rates is not None
    assert service.rates.requests == pytest.approx(50)
    assert service.rates.errors == pytest.approx(8)
    assert service.rates.mean_time == pytest.approx((10 * 100 + 40 * 400) / 50)
    assert service.endpoints[0].rates == service.rates


def test_a_missed_round_makes_an_instance_stale_and_several_make_it_gone() -> None:
    meter = rounds((0, [stats(endpoint(0))]), (1, [stats(endpoint(5))]), (2, []))
    assert meter.expected == frozenset()
    instance = one(meter)
    assert instance.is_stale
    assert instance.rates is instance.endpoints[0].rates is calc(meter).rates is None
    assert instance.num_requests == 5
    assert instance.history == (None, 5, None)
    for _ in range(ROUNDS_UNTIL_GONE - 1):
        meter.end_round()
    assert one(meter).is_stale
    meter.end_round()
    assert meter.figures() == ()


def test_an_instance_that_comes_back_has_its_rate_over_all_the_time() -> None:
    meter = rounds((0, [stats(endpoint(0))]), (1, []), (2, []), (4, [stats(endpoint(100))]))
    assert one(meter).rates == Rates(25, 0, 0)
    assert not one(meter).is_stale
    assert meter.expected == {("calc", "one")}


def test_what_comes_and_goes_does_not_disturb_the_rest() -> None:
    meter = rounds(
        (0, [stats(endpoint(100)), stats(endpoint(1_000), instance="old")]),
        (1, [stats(endpoint(110)), stats(endpoint(10**6), instance="new")]),
    )
    service = calc(meter)
    assert service.rates == Rates(10, 0, 0)
    assert [(each.id, each.is_stale, each.rates) for each in service.instances] == [
        ("new", False, None),
        ("old", True, None),
        ("one", False, Rates(10, 0, 0)),
    ]


@pytest.mark.parametrize(
    "after",
    [
        stats(endpoint(3, 1, 500)),
        stats(endpoint(20, 0, 500)),
        stats(endpoint(20, 1, 400)),
        stats(endpoint(20, 1, 500), started=STARTED + timedelta(seconds=1)),
    ],
    ids=["requests", "errors", "time", "started"],
)
def test_a_reset_gives_no_rate_for_a_round(after: ServiceStats) -> None:
    meter = rounds((0, [stats(endpoint(10, 1, 500))]), (1, [after]))
    assert one(meter).rates is None
    assert one(meter).num_requests == after.endpoints[0].num_requests
    add = after.endpoints[0]
    meter.add(stats(endpoint(add.num_requests + 8, 1, 500), started=after.started), 2)
    assert one(meter).rates == Rates(8, 1 - add.num_errors, 500 - add.processing_time)


def test_the_reset_of_one_endpoint_leaves_the_others_their_rates() -> None:
    meter = rounds(
        (0, [stats(endpoint(10), endpoint(10, name="b"))]),
        (1, [stats(endpoint(2), endpoint(15, name="b"))]),
    )
    assert [each.rates for each in one(meter).endpoints] == [None, Rates(5, 0, 0)]
    assert calc(meter).rates == Rates(5, 0, 0)


def test_endpoints_may_be_added_and_removed() -> None:
    meter = rounds(
        (0, [stats(endpoint(10), endpoint(10, name="b"))]),
        (1, [stats(endpoint(10**9, name="c"), endpoint(15, name="b"))]),
    )
    assert [(each.name, each.rates) for each in one(meter).endpoints] == [("c", None), ("b", Rates(5, 0, 0))]


def test_endpoints_with_all_names_alike_are_told_apart_by_their_order() -> None:
    meter = rounds((0, [stats(endpoint(10), endpoint(100))]), (1, [stats(endpoint(11), endpoint(105))]))
    assert [each.rates for each in one(meter).endpoints] == [Rates(1, 0, 0), Rates(5, 0, 0)]
    assert [each.history for each in one(meter).endpoints] == [(None, 1), (None, 5)]
    assert [each.rates for each in calc(meter).endpoints] == [Rates(6, 0, 0)]


def test_a_second_answer_in_a_round_is_ignored() -> None:
    meter = rounds((0, [stats(endpoint(0))]))
    meter.add(stats(endpoint(10)), 1)
    meter.add(stats(endpoint(10**6)), 1.1)
    assert one(meter).rates == Rates(10, 0, 0)
    assert one(meter).num_requests == 10


@pytest.mark.parametrize("now", [1, 0.5])
def test_no_time_between_two_answers_changes_nothing(now: float) -> None:
    meter = rounds((0, [stats(endpoint(0))]), (1, [stats(endpoint(10))]), (now, [stats(endpoint(30))]))
    assert one(meter).rates == Rates(10, 0, 0)
    meter.add(stats(endpoint(40)), 3)
    assert one(meter).rates == Rates(15, 0, 0)


def test_a_round_that_the_server_did_not_survive_is_missed_by_nobody() -> None:
    meter = rounds((0, [stats(endpoint(0)), stats(endpoint(0), instance="two")]))
    meter.add(stats(endpoint(5)), 1)
    meter.drop_round()
    meter.add(stats(endpoint(9)), 2)
    meter.add(stats(endpoint(8), instance="two"), 2)
    meter.end_round()
    assert [(each.id, each.is_stale, each.rates) for each in calc(meter).instances] == [
        ("one", False, Rates(4, 0, 0)),
        ("two", False, Rates(4, 0, 0)),
    ]


def test_in_the_middle_of_a_round_new_figures_show_and_old_ones_stay() -> None:
    meter = rounds(
        (0, [stats(endpoint(0)), stats(endpoint(0), instance="two")]),
        (1, [stats(endpoint(5)), stats(endpoint(7), instance="two")]),
    )
    meter.add(stats(endpoint(15)), 2)
    assert [each.rates for each in calc(meter).instances] == [Rates(10, 0, 0), Rates(7, 0, 0)]
    assert [each.history for each in calc(meter).instances] == [(None, 5, 10), (None, 7)]
    meter.add(stats(endpoint(10), instance="two"), 2)
    meter.end_round()
    assert [each.history for each in calc(meter).instances] == [(None, 5, 10), (None, 7, 3)]
    assert calc(meter).history == (None, 12, 13)


def test_the_history_has_an_end() -> None:
    meter = rounds(*((now, [stats(endpoint(now * now))]) for now in range(HISTORY + 10)))
    assert len(one(meter).history) == HISTORY
    assert one(meter).history[-1] == 2 * (HISTORY + 9) - 1
    meter.add(stats(endpoint(10**6)), HISTORY + 10)
    assert len(one(meter).history) == HISTORY


def test_nothing_is_kept_of_what_is_gone() -> None:
    meter = Meter()
    for number in range(100):
        meter.add(stats(endpoint(number), instance=f"i{number}"), number)
        meter.end_round()
    assert len(calc(meter).instances) == ROUNDS_UNTIL_GONE + 1
    assert len(meter._histories) == 2 * (ROUNDS_UNTIL_GONE + 1) + 2


def test_absurd_answers_never_give_a_negative_rate_or_an_error() -> None:
    chance = random.Random(1)
    numbers = [0, 1, -1, -(10**400), 10**400, 2**63, 2**64, 10**6]
    starts = [STARTED, datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)]
    meter = Meter()
    now = 0.0
    for _ in range(300):
        for _ in range(chance.randrange(4)):
            endpoints = [
                EndpointStats(
                    name=chance.choice("ab"),
                    subject="s",
                    num_requests=chance.choice(numbers),
                    num_errors=chance.choice(numbers),
                    processing_time=chance.choice(numbers),
                    average_processing_time=chance.choice(numbers),
                )
                for _ in range(chance.randrange(4))
            ]
            meter.add(stats(*endpoints, instance=chance.choice("xyz"), started=chance.choice(starts)), now)
        meter.end_round()
        now += chance.choice([0, 1e-12, 1, 1e9])
        for service in meter.figures():
            parts = [service, *service.endpoints, *service.instances]
            for part in (*parts, *(each for instance in service.instances for each in instance.endpoints)):
                if part.rates is not None:
                    shown = (part.rates.requests, part.rates.errors, part.rates.busy)
                    assert all(each >= 0 and math.isfinite(each) for each in shown)
                    assert part.rates.error_share is None or 0 <= part.rates.error_share <= 1
                    assert part.rates.mean_time is None or part.rates.mean_time >= 0
                assert part.num_requests >= 0


class Counted(str):
    """A name that counts how often it is compared."""

    __slots__ = ()
    comparisons = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Counted.comparisons += 1
        return str.__eq__(self, other)

    def __lt__(self, other: str) -> bool:
        Counted.comparisons += 1
        return str.__lt__(self, other)


def comparisons_of(services: int) -> int:
    Counted.comparisons = 0
    meter = Meter()
    for now in range(2):
        for number in random.Random(1).sample(range(services), services):
            meter.add(stats(endpoint(now), name=Counted(f"s{number:04}"), instance="i"), now)
        meter.end_round()
        assert len(meter.figures()) == services
    return Counted.comparisons


def test_the_work_grows_no_faster_than_sorting() -> None:
    """For 5,000 services it took more than a minute, a round and a screen each looking through all for each."""
    few, many = comparisons_of(200), comparisons_of(800)
    assert many < 8 * few


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_rates, "MAX_INSTANCES", 2)
    answers = [stats(endpoint(0), instance=each) for each in ("one", "two", "three")]
    meter = rounds((0, answers), (1, answers))
    assert [each.id for each in calc(meter).instances] == ["one", "two"]
    monkeypatch.undo()
    answers = [ServiceStats.from_json(each.to_json()) for each in answers]
    monkeypatch.setattr(_rates, "MAX_BYTES", 2 * len(answers[0].raw) + 5)
    meter = rounds((0, answers), (1, answers), (2, answers[2:]))
    assert [each.id for each in calc(meter).instances] == ["one", "two"]
    meter = rounds((0, answers[:2]), *((number, []) for number in range(1, ROUNDS_UNTIL_GONE + 2)), (9, answers[2:]))
    assert [each.id for each in calc(meter).instances] == ["three"]
