"""The counters of one endpoint and the clock."""

from __future__ import annotations

from datetime import UTC

import pytest

from natsery import Clock, FailureCause
from natsery._responses import check_json
from natsery._statistics import LAST_ERROR_LENGTH, Counters, Failure


def snapshot(counters, data=None):
    return counters.snapshot("add", "math.add", "q", data)


def test_fresh_counters_are_zero():
    stats = snapshot(Counters())
    assert (stats.name, stats.subject, stats.queue_group) == ("add", "math.add", "q")
    assert (stats.num_requests, stats.num_errors, stats.last_error) == (0, 0, "")
    assert (stats.processing_time, stats.average_processing_time) == (0, 0)
    assert (stats.failures, stats.malformed) == ({}, 0)
    assert stats.data is None


def test_a_failure_changes_everything_together():
    counters = Counters()
    counters.count_failure(Failure(FailureCause.TIMEOUT, 504, "Deadline Exceeded"), 7)
    stats = snapshot(counters)
    assert (stats.num_requests, stats.num_errors, stats.processing_time) == (1, 1, 7)
    assert stats.last_error == "504:Deadline Exceeded"
    assert stats.failures == {"timeout": 1}


def test_failures_add_up_by_cause():
    counters = Counters()
    for elapsed in (3, 4):
        counters.count_failure(Failure(FailureCause.EXCEPTION, 500, "x"), elapsed)
    counters.count_failure(Failure(FailureCause.OVERLOADED, 503, "x"))  # which was not handled, and so took no time
    stats = snapshot(counters)
    assert stats.failures == {"exception": 2, "overloaded": 1}
    assert (stats.num_requests, stats.num_errors, stats.processing_time) == (3, 3, 7)


def test_the_average_is_rounded_down():
    counters = Counters()
    for elapsed in (3, 3, 5):
        counters.count_good(elapsed)
    assert snapshot(counters).average_processing_time == 3


def test_reset_begins_again_at_zero():
    counters = Counters()
    counters.count_failure(Failure(FailureCause.EXCEPTION, 500, "x"), 5)
    counters.malformed = 2
    assert snapshot(counters).malformed == 2
    counters.reset()
    assert snapshot(counters) == snapshot(Counters())


def test_a_request_under_way_at_a_reset_is_counted_whole_afterwards():
    counters = Counters()
    counters.count_good(5)
    counters.reset()
    counters.count_good(7)
    stats = snapshot(counters)
    assert (stats.num_requests, stats.processing_time, stats.average_processing_time) == (1, 7, 7)


def test_a_good_request_can_turn_into_a_failure_without_counting_twice():
    counters = Counters()
    counters.count_good(5)
    counters.turn_into_failure(Failure(FailureCause.UNDELIVERABLE, 503, "gone"))
    stats = snapshot(counters)
    assert (stats.num_requests, stats.num_errors, stats.last_error) == (1, 1, "503:gone")
    assert stats.failures == {"undeliverable": 1}


def test_turning_into_a_failure_after_a_reset_leaves_no_error_without_a_request():
    counters = Counters()
    counters.count_good(5)
    counters.reset()
    counters.turn_into_failure(Failure(FailureCause.UNDELIVERABLE, 503, "gone"))
    assert snapshot(counters) == snapshot(Counters())


def test_errors_never_outnumber_requests_after_a_reset():
    counters = Counters()
    counters.count_good(5)
    counters.reset()
    counters.count_failure(Failure(FailureCause.EXCEPTION, 500, "x"))
    counters.turn_into_failure(Failure(FailureCause.UNDELIVERABLE, 503, "gone"))
    stats = snapshot(counters)
    assert (stats.num_requests, stats.num_errors, stats.last_error) == (1, 1, "500:x")


def test_a_long_description_is_cut():
    counters = Counters()
    counters.count_failure(Failure(FailureCause.SERVICE_ERROR, 400, "x" * 5000))
    assert counters.last_error == "400:" + "x" * LAST_ERROR_LENGTH


def test_a_description_with_surrogates_keeps_stats_writable():
    counters = Counters()
    counters.count_failure(Failure(FailureCause.SERVICE_ERROR, 400, "a\ud800b"))
    assert counters.last_error == "400:a?b"
    check_json(snapshot(counters).to_dict())


def test_a_snapshot_is_frozen_and_stays_as_it_was():
    counters = Counters()
    counters.count_failure(Failure(FailureCause.EXCEPTION, 500, "x"))
    stats = snapshot(counters, {"a": 1})
    counters.count_failure(Failure(FailureCause.EXCEPTION, 500, "x"))
    counters.reset()
    assert (stats.num_requests, stats.failures, stats.data) == (1, {"exception": 1}, {"a": 1})
    with pytest.raises(AttributeError):
        stats.num_requests = 2
    with pytest.raises(TypeError):
        stats.failures["exception"] = 2


def test_the_clock_tells_time_with_a_zone_and_never_goes_back():
    clock = Clock()
    assert clock.now().tzinfo is UTC
    assert clock.monotonic_ns() <= clock.monotonic_ns()


def test_the_clock_can_be_another():
    assert Clock(monotonic_ns=lambda: 5).monotonic_ns() == 5
