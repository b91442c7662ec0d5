"""The replies of services in other languages, of tired ones and of odd ones: ``data/control_replies.json`` has them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

import natsery
from natsery import Headers, Message, ServiceInfo, ServicePing, ServiceStats
from natsery._client._service_client import _read_answer
from natsery._responses import _read_duration, format_time

CASES = {
    case["name"]: case for case in json.loads((Path(__file__).parent / "data" / "control_replies.json").read_text())
}
KINDS = {"PING": ServicePing, "INFO": ServiceInfo, "STATS": ServiceStats}


def read(name):
    case = CASES[name]
    message = Message("inbox", case["payload"].encode(), headers=Headers.from_wire(case.get("headers", {}).items()))
    return _read_answer(KINDS[case["verb"]], message)


def test_durations_that_are_not_sent_are_calculated():
    _, hello = read("nats.c 3.11 and newer: no processing_time").endpoints
    assert (hello.average_processing_time, hello.processing_time) == (2_276_317, 45_526_340)


def test_durations_as_text():
    (hello,) = read("nats.c 3.7 to 3.10: durations as text").endpoints
    assert (hello.average_processing_time, hello.processing_time) == (2_130_430, 20 * 2_130_430)


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0s", 0),
        ("7ns", 7),
        ("1.5us", 1_500),
        ("1.5µs", 1_500),
        ("2.13043ms", 2_130_430),
        ("1m2.5s", 62_500_000_000),
        ("1h0m1s", 3_601_000_000_000),
        ("", None),
        ("soon", None),
        ("1", None),
        ("1x", None),
        ("1s later", None),
        ("9" * 100 + "s", None),
    ],
)
def test_the_notation_of_durations(text, nanoseconds):
    assert _read_duration(text) == nanoseconds


def test_metadata_that_is_no_text():
    assert read("jnats: an empty metadata value").metadata == {"lang": "java", "region": ""}
    assert read("a number as a metadata value").metadata == {"port": "8080", "tls": "true"}


def test_endpoints_as_an_object():
    assert [each.name for each in read("endpoints as an object").endpoints] == ["a"]


def test_an_error_in_place_of_a_reply():
    with pytest.raises(natsery.MalformedReplyError, match="with the error 500: Maximum Payload Exceeded"):
        read("the service is too large to describe itself")


HEAD = {"name": "calc", "id": "x", "version": "1.0.0"}
ODD = [None, True, -1, 1.5, "text", "\ud800", [], {}, [[]], {"a": {}}]


@pytest.mark.parametrize("odd", ODD, ids=repr)
@pytest.mark.parametrize("key", ["metadata", "description", "endpoints"])
def test_one_odd_value_hides_no_service(key, odd):
    info = ServiceInfo.from_json(json.dumps({**HEAD, key: odd}).encode())
    assert info.name == "calc"
    info.to_json()


@pytest.mark.parametrize("odd", ODD, ids=repr)
@pytest.mark.parametrize(
    "key", ["queue_group", "num_requests", "num_errors", "last_error", "processing_time", "average_processing_time"]
)
def test_one_odd_figure_hides_no_other(key, odd):
    started = "2026-11-26T20:26:26.22Z"
    endpoints = [{"name": "e", "subject": "e", "num_errors": 1, key: odd}, {"name": "f", "subject": "f"}]
    stats = ServiceStats.from_json(json.dumps({**HEAD, "started": started, "endpoints": endpoints}).encode())
    assert [each.name for each in stats.endpoints] == ["e", "f"]
    stats.to_json()


def test_a_huge_number_hides_nothing():
    text = '{"name":"calc","id":"x","version":"1","endpoints":[{"name":"e","subject":"e","num_requests":%s}],"started":"%s"}'
    stats = ServiceStats.from_json((text % ("9" * 10_000, "2026-11-26T20:26:26Z")).encode())
    assert stats.endpoints[0].num_requests == 0


def test_an_error_names_the_service_as_far_as_it_can_be_read():
    with pytest.raises(natsery.MalformedReplyError, match=r"'calc x': reply\.version"):
        ServicePing.from_json(b'{"name":"calc","id":"x"}')


@pytest.mark.parametrize("hours", [-14, 14])
@pytest.mark.parametrize("moment", [datetime.min, datetime.max], ids=["first", "last"])  # noqa: DTZ901
def test_times_at_the_ends_of_the_calendar_can_be_written(moment, hours):
    """It was an OverflowError."""
    text = format_time(moment.replace(tzinfo=timezone(timedelta(hours=hours))))
    assert text.startswith(("0001-", "9999-"))
    assert format_time(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01T00:00:00.000000Z"
