"""The sums of what instances have done."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from natsery._cli._discovery._totals import LARGEST_COUNT, EndpointTotals, ServiceTotals, sum_stats

from .figures import STARTED, endpoint, stats


def test_nobody() -> None:
    assert sum_stats([]) == []


def test_instances_and_endpoints_are_summed() -> None:
    later = STARTED + timedelta(hours=1)
    found = sum_stats(
        [
            stats(endpoint(10, 1, 1_000, "400:a"), instance="two", version="1.1.0", started=later),
            stats(endpoint(30, 2, 9_000, "500:b"), endpoint(5, name="divide"), instance="one"),
            stats(name="a", instance="three"),
        ]
    )
    assert found == [
        ServiceTotals(
            name="a",
            versions=("1.0.0",),
            instances=1,
            endpoints=(),
            num_requests=0,
            num_errors=0,
            processing_time=0,
            average_processing_time=0,
            last_error="",
            started=STARTED,
        ),
        ServiceTotals(
            name="calc",
            versions=("1.0.0", "1.1.0"),
            instances=2,
            endpoints=(
                EndpointTotals(
                    name="add",
                    subject="math.add",
                    queue_group="q",
                    instances=2,
                    num_requests=40,
                    num_errors=3,
                    processing_time=10_000,
                    average_processing_time=250,
                    last_error="500:b",
                ),
                EndpointTotals(
                    name="divide",
                    subject="math.divide",
                    queue_group="q",
                    instances=1,
                    num_requests=5,
                    num_errors=0,
                    processing_time=0,
                    average_processing_time=0,
                    last_error="",
                ),
            ),
            num_requests=45,
            num_errors=3,
            processing_time=10_000,
            average_processing_time=222,
            last_error="500:b",
            started=STARTED,
        ),
    ]


def test_endpoints_of_other_subjects_or_queue_groups_are_others() -> None:
    (found,) = sum_stats(
        [
            stats(endpoint(1), endpoint(2, subject="b"), instance="one"),
            stats(endpoint(4, queue_group=""), endpoint(8), instance="two"),
        ]
    )
    assert [(each.subject, each.queue_group, each.num_requests, each.instances) for each in found.endpoints] == [
        ("math.add", "q", 9, 2),
        ("b", "q", 2, 1),
        ("math.add", "", 4, 1),
    ]


def test_two_endpoints_with_all_names_alike_are_one_with_one_instance() -> None:
    (found,) = sum_stats([stats(endpoint(1), endpoint(2))])
    assert [(each.num_requests, each.instances) for each in found.endpoints] == [(3, 1)]


def test_an_instance_that_answers_twice_counts_once() -> None:
    (found,) = sum_stats([stats(endpoint(1)), stats(endpoint(7))])
    assert (found.instances, found.num_requests) == (1, 1)


def test_the_last_error_is_that_of_the_instance_with_the_most_errors() -> None:
    (found,) = sum_stats(
        [
            stats(endpoint(9, 2, last_error="400:few"), instance="one"),
            stats(endpoint(9, 5, last_error="500:many"), instance="two"),
            stats(endpoint(9, 5, last_error="500:as many, but second"), instance="three"),
            stats(endpoint(9, 8), instance="four"),
        ]
    )
    assert found.last_error == found.endpoints[0].last_error == "500:many"


def test_counters_that_cannot_be_meant_count_as_the_nearest_that_can() -> None:
    (found,) = sum_stats([stats(endpoint(-5, -1, -100)), stats(endpoint(10**400, 3, 10**400), instance="two")])
    (add,) = found.endpoints
    assert (add.num_requests, add.num_errors, add.processing_time) == (LARGEST_COUNT, 3, LARGEST_COUNT)
    assert add.average_processing_time == found.average_processing_time == 1


def test_the_start_is_the_earliest_that_can_be_meant() -> None:
    never = datetime(1, 1, 1, tzinfo=UTC)
    (found,) = sum_stats([stats(started=never), stats(instance="two")])
    assert found.started == STARTED
    (found,) = sum_stats([stats(started=never)])
    assert found.started == never
