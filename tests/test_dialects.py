"""The replies of services in other languages, of tired ones and of odd ones: ``data/control_replies.json`` has them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

import natsery
from natsery import Headers, Message, ServiceInfo, ServicePing, ServiceStats
from natsery._client._discovery import _read_answer
from natsery._responses import _read_duration, format_time

from .dialects import CASES

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
        ("1.5\N{MICRO SIGN}s", 1_500),
        ("1.5\N{GREEK SMALL LETTER MU}s", 1_500),
        ("2.13043ms", 2_130_430),
        ("1m2.5s", 62_500_000_000),
        ("1h0m1s", 3_601_000_000_000),
        ("-1m2.5s", -62_500_000_000),
        ("10ns" * 25, 250),
        ("", None),
        ("soon", None),
        ("1", None),
        ("1x", None),
        ("1s later", None),
        ("9" * 100 + "s", None),
        ("1ns" + "10ns" * 25, None),
        ("1s-1s", None),
    ],
)
def test_the_notation_of_durations(text, nanoseconds):
    assert _read_duration(text) == nanoseconds


def test_metadata_that_is_no_text():
    assert read("jnats: an empty metadata value").metadata == {"lang": "java", "region": ""}
    assert read("a number as a metadata value").metadata == {"port": "8080", "tls": "true"}
    (town,) = ServicePing.from_json('{"name":"a","id":"x","metadata":{"town":["Köln"]}}'.encode()).metadata.values()
    assert town == '["Köln"]'


def test_endpoints_as_an_object():
    assert [each.name for each in read("endpoints as an object").endpoints] == ["a"]


def test_an_error_in_place_of_a_reply():
    with pytest.raises(natsery.MalformedReplyError, match="with the error 500: Maximum Payload Exceeded"):
        read("the service is too large to describe itself")


HEAD = {"name": "calc", "id": "x", "version": "1.0.0"}
ODD = [None, True, -1, 1.5, "text", pytest.param("\ud800", id="lone surrogate"), [], {}, [[]], {"a": {}}]


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


STATS = '{"name":"calc","id":"x","version":"1.0.0","started":"2026-11-26T20:26:26Z","endpoints":[%s]}'
DEEP = "[" * 100_000 + "]" * 100_000
NESTED = "[" * 900 + "]" * 900
OBJECTS = '{"a":' * 50_000 + "1" + "}" * 50_000


@pytest.mark.parametrize(
    ("digits", "is_read"), [(300, True), (301, False), (10_000, False)], ids=["long", "too long", "endless"]
)
def test_a_number_of_any_length_hides_nothing(digits, is_read):
    number = "9" * digits
    stats = ServiceStats.from_json((STATS % f'{{"name":"e","subject":"e","num_requests":{number}}}').encode())
    assert stats.endpoints[0].num_requests == (int(number) if is_read else 0)
    stats.to_json()


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ('"processing_time":7', (7, 3)),
        ('"average_processing_time":3', (6, 3)),
        ('"processing_time":7,"average_processing_time":5', (7, 5)),
        ('"num_errors":0', (0, 0)),
    ],
    ids=["total", "mean", "both", "none"],
)
def test_a_time_that_is_left_out_is_calculated_from_the_other(times, expected):
    each = '{"name":"e","subject":"e","num_requests":2,' + times + "}"
    (endpoint,) = ServiceStats.from_json((STATS % each).encode()).endpoints
    assert (endpoint.processing_time, endpoint.average_processing_time) == expected


def test_a_number_that_is_no_float_is_unknown_wherever_it_is():
    """Written as JSON, it was a ValueError, or not JSON."""
    each = '{"name":"e","subject":"e","num_requests":1e999,"processing_time":-1e999,"data":[1e999,NaN,%s]}' % (
        "9" * 10_000
    )
    stats = ServiceStats.from_json((STATS % each).encode())
    assert stats.endpoints[0].data == [None, None, None]
    assert b"Infinity" not in stats.to_json()


@pytest.mark.parametrize("deep", [DEEP, NESTED, OBJECTS], ids=len)
@pytest.mark.parametrize("key", ["data", "last_error", "queue_group", "new", "num_requests"])
def test_a_deeply_nested_value_hides_no_service(key, deep):
    """It could not be read, or was a RecursionError."""
    text = STATS % f'{{"name":"e","subject":"e","{key}":{deep}}},{{"name":"f","subject":"f"}}'
    stats = ServiceStats.from_json(text.encode())
    assert [each.name for each in stats.endpoints] == ["e", "f"]
    json.loads(stats.to_json())


@pytest.mark.parametrize(("opening", "closing"), ["[]", ('{"a":', "}")], ids=["arrays", "objects"])
def test_data_is_nested_as_in_the_reply_to_a_hundred_levels(opening, closing):
    def nest(levels, innermost):
        return opening * levels + innermost + closing * levels

    for levels, kept in ((100, nest(100, "1")), (101, nest(100, "null")), (300, nest(100, "null"))):
        each = f'{{"name":"e","subject":"e","data":{nest(levels, "1")}}}'
        (endpoint,) = ServiceStats.from_json((STATS % each).encode()).endpoints
        assert endpoint.data == json.loads(kept)


@pytest.mark.parametrize("deep", [DEEP, NESTED], ids=len)
def test_a_deeply_nested_head_hides_nothing_else(deep):
    text = '{"description":%s,"metadata":{"a":%s},"type":%s,"name":"calc","id":"x","version":%s}' % ((deep,) * 4)
    info = ServiceInfo.from_json(text.encode())
    assert (info.name, info.id, list(info.metadata)) == ("calc", "x", ["a"])
    with pytest.raises(natsery.MalformedReplyError, match="'calc': "):
        ServiceInfo.from_json(f'{{"name":"calc","id":{deep}}}'.encode())


def test_brackets_in_text_are_no_nesting():
    texts = ("[" * 200 + '"\\', '{"' * 200)
    text = '{"name":"calc","id":"x","version":%s,"new":%s,"description":%s}'
    info = ServiceInfo.from_json((text % (json.dumps(texts[0]), DEEP, json.dumps(texts[1]))).encode())
    assert (info.version, info.description) == texts


QUOTES = "[" * 5_000 + '"' + '\\"' * 2_000_000


@pytest.mark.parametrize("text", ["[" * 2_000_000, '{"a":' * 200_000 + '"', QUOTES, QUOTES + "\\"])
def test_what_is_deep_and_no_json_is_refused(text):
    """A text that ended in a backslash took minutes, and days at this length."""
    with pytest.raises(natsery.MalformedReplyError, match="not JSON"):
        ServiceInfo.from_json(text.encode())


def test_data_with_lone_surrogates_can_be_written_again():
    """It was a UnicodeEncodeError."""
    each = r'{"name":"e","subject":"e","data":{"\ud800":["\udfff",{"a":"\ud83d\ude00"}]}}'
    stats = ServiceStats.from_json((STATS % each).encode())
    assert stats.endpoints[0].data == {"?": ["?", {"a": "\U0001f600"}]}
    stats.to_json()


@pytest.mark.parametrize("text", [b"K\xf6ln", b"tab\there", b"\xed\xa0\x80", b"\xff\xfe", b"a\0b\x9b"])
def test_bytes_that_are_no_text_hide_no_service(text):
    """A description in Latin-1, or with a tab in it, made the whole reply unreadable."""
    info = ServiceInfo.from_json(b'\xef\xbb\xbf{"name":"calc","id":"x","version":"1.0.0","description":"%s"}' % text)
    assert (info.name, info.id) == ("calc", "x")
    info.to_json()


@pytest.mark.parametrize("odd", [*ODD, "yesterday", "2026-13-01T00:00:00Z", "0000-01-01T00:00:00Z", 5, 1e300], ids=repr)
@pytest.mark.parametrize("key", ["version", "started", "type"])
def test_an_odd_head_hides_no_service(key, odd):
    """A service whose start or version could not be read was not there."""
    if key == "type" and isinstance(odd, str):
        return  # it is a reply of another kind
    stats = ServiceStats.from_json(json.dumps({**HEAD, "started": "2026-11-26T20:26:26Z", key: odd}).encode())
    assert stats.name == "calc"
    assert stats.started.year == (1 if key == "started" else 2026)
    stats.to_json()


def test_a_reply_keeps_what_it_was_read_from():
    text = '{"name":"calc", "id":"x","new":[1.50,1e999]}'
    ping = ServicePing.from_json(text.encode())
    assert ping.raw == text
    assert ping == ServicePing(name="calc", id="x", version="")
    assert repr(ping) == repr(ServicePing(name="calc", id="x", version=""))
    assert ServicePing(name="calc", id="x", version="").raw == ""


@pytest.mark.parametrize(
    ("text", "who"),
    [
        ('{"name":"calc"}', "'calc': reply.id is not a non-empty string: None"),
        ('{"name":5,"id":"x"}', "'x': reply.name is not a non-empty string: 5"),
        ('{"name":"calc","id":"x","type":"no"}', "'calc x': type is 'no', not "),
        ('{"name":"calc","id":"x","endpoints":[{"name":"e"', "'calc x': not JSON: "),
        ('{"id" : "x","endpoints":[{"name":"e"', "'x': not JSON: "),
        ('{"name":"ca\x1blc\\', "not JSON: "),
        ("[]", "reply is not a JSON object"),
        ('{"name":"%s"}' % ("n" * 1000), f"'{'n' * 100}': reply.id is not "),
        ('{"name":"%s' % ("n" * 1000) + '","id":}', f"'{'n' * 100}': not JSON"),
        ('{"name":"a[0]","id":', "'a[0]': not JSON"),
        ('[{"name":"calc"', "not JSON: "),
    ],
)
def test_an_error_names_the_service_as_far_as_it_can_be_read(text, who):
    with pytest.raises(natsery.MalformedReplyError) as caught:
        ServicePing.from_json(text.encode())
    assert str(caught.value).startswith(who)


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("0001-01-01T00:00:00+14:00", datetime(1, 1, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59-14:00", datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
    ],
)
def test_times_at_the_ends_of_the_calendar_are_in_utc(text, nearest):
    """Whoever converted them got an OverflowError, as `natsery top --json` did."""
    started = ServiceStats.from_json(json.dumps({**HEAD, "started": text}).encode()).started
    assert started.tzinfo is UTC
    assert started == nearest


@pytest.mark.parametrize("hours", [-14, 14])
@pytest.mark.parametrize("moment", [datetime.min, datetime.max], ids=["first", "last"])  # noqa: DTZ901
def test_times_at_the_ends_of_the_calendar_can_be_written(moment, hours):
    """It was an OverflowError."""
    text = format_time(moment.replace(tzinfo=timezone(timedelta(hours=hours))))
    assert text.startswith(("0001-", "9999-"))
    assert format_time(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01T00:00:00.000000Z"


@pytest.mark.parametrize("text", ["1" * 4_000_000, "1m" * 4_000_000, "2026-11-26T20:26:26." + "1" * 4_000_000])
def test_an_endless_time_is_unknown(text):
    each = f'{{"name":"e","subject":"e","num_requests":2,"average_processing_time":"{text}"}}'
    stats = ServiceStats.from_json((STATS % each).replace("2026-11-26T20:26:26Z", text).encode())
    assert (stats.started, stats.endpoints[0].processing_time) == (datetime(1, 1, 1, tzinfo=UTC), 0)
