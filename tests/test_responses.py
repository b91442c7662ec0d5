"""Replies to PING, INFO and STATS: written exactly, read leniently."""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from natsery import EndpointInfo, EndpointStats, MalformedReplyError, ServiceInfo, ServicePing, ServiceStats
from natsery._responses import UNKNOWN_TIME, check_json, format_time, parse_time

from . import corpus

ID = "x3Yuiq7g7MoxhXdxk7i4K7"
WHO = {"name": "calc", "id": ID, "version": "1.0.0"}
STARTED = datetime(2026, 9, 24, 11, 2, 55, 564771, tzinfo=UTC)
SCHEMAS = Path(__file__).parent / "schemas"

PING = ServicePing(**WHO)
INFO = ServiceInfo(**WHO, endpoints=(EndpointInfo(name="add", subject="math.add", queue_group="q"),))
ADD = EndpointStats(
    name="add",
    subject="math.add",
    queue_group="q",
    num_requests=7,
    num_errors=1,
    last_error="500:handler error",
    processing_time=1234567,
    average_processing_time=176366,
)
STATS = ServiceStats(**WHO, started=STARTED, endpoints=(ADD,))

HEAD = b'{"name":"calc","id":"x3Yuiq7g7MoxhXdxk7i4K7","version":"1.0.0","metadata":{},"type":"io.nats.micro.v1.'
PING_BYTES = HEAD + b'ping_response"}'
INFO_BYTES = (
    HEAD
    + b'info_response","description":"","endpoints":[{"name":"add","subject":"math.add","queue_group":"q","metadata":{}}]}'
)
STATS_BYTES = (
    HEAD + b'stats_response","started":"2026-09-24T11:02:55.564771Z","endpoints":[{"name":"add","subject":"math.add",'
    b'"queue_group":"q","num_requests":7,"num_errors":1,"last_error":"500:handler error","processing_time":1234567,'
    b'"average_processing_time":176366}]}'
)
EXAMPLES = pytest.mark.parametrize(
    ("reply", "data"), [(PING, PING_BYTES), (INFO, INFO_BYTES), (STATS, STATS_BYTES)], ids=["ping", "info", "stats"]
)
KINDS = pytest.mark.parametrize("kind", [ServicePing, ServiceInfo, ServiceStats])


def validate(reply):
    schema = json.loads((SCHEMAS / f"{reply.response_type.rpartition('.')[2]}.json").read_text(encoding="utf-8"))
    jsonschema.Draft7Validator({**schema, "additionalProperties": False}).validate(json.loads(reply.to_json()))


def stats_with(**fields):
    value = json.loads(STATS_BYTES)
    value.update(fields)
    return ServiceStats.from_json(json.dumps(value).encode())


def endpoint_with(**fields):
    return stats_with(endpoints=[{"name": "add", "subject": "math.add", **fields}]).endpoints[0]


@EXAMPLES
def test_replies_are_written_byte_for_byte(reply, data):
    assert reply.to_json() == data


@EXAMPLES
def test_replies_come_back_as_they_were_written(reply, data):
    assert type(reply).from_json(data) == reply


@pytest.mark.parametrize(
    "reply",
    [
        PING,
        INFO,
        STATS,
        ServicePing(**WHO, metadata={"a": "😀"}),
        ServiceInfo(**WHO),
        ServiceInfo(**WHO, description="d", endpoints=(EndpointInfo(name="a", subject=">", metadata={"a": "b"}),)),
        ServiceStats(**WHO, started=STARTED),
        ServiceStats(**WHO, started=STARTED, endpoints=(EndpointStats(name="a", subject="a", data=[1, {"x": None}]),)),
    ],
)
def test_replies_are_valid_against_the_official_schemas_without_further_fields(reply):
    validate(reply)
    assert type(reply).from_json(reply.to_json()) == reply
    assert None not in json.loads(reply.to_json()).values()


def test_text_is_written_as_it_is():
    assert ServicePing(**WHO, metadata={"town": "Köln 😀"}).to_json() == PING_BYTES.replace(
        b"{}", '{"town":"Köln 😀"}'.encode()
    )


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_no_json_is_not_written(number):
    """Whoever read it would have refused the whole reply."""
    stats = ServiceStats(**WHO, started=STARTED, endpoints=(EndpointStats(name="a", subject="a", data=[number]),))
    with pytest.raises(ValueError, match="not JSON compliant"):
        stats.to_json()


def test_replies_without_endpoints_say_so():
    assert json.loads(ServiceInfo(**WHO).to_json())["endpoints"] == []
    assert json.loads(ServiceStats(**WHO, started=STARTED).to_json())["endpoints"] == []


def test_data_is_written_only_if_there_is_some():
    assert "data" not in ADD.to_dict()
    assert EndpointStats(name="a", subject="a", data=0).to_dict()["data"] == 0


def test_failures_and_malformed_messages_have_no_fields_of_their_own():
    fields = EndpointStats(name="a", subject="a", failures={"timeout": 1}, malformed=2).to_dict()
    assert not {"failures", "malformed"} & set(fields)


@pytest.mark.parametrize(
    ("text", "micros"),
    [("", 0), (".5", 500000), (".56", 560000), (".564", 564000), (".5647", 564700), (".56477", 564770)]
    + [
        (".564771", 564771),
        (".5647719", 564771),
        (".56477199", 564771),
        (".564771999", 564771),
        (".5647719999", 564771),
    ],
)
def test_started_may_have_any_number_of_fraction_digits(text, micros):
    assert stats_with(started=f"2026-09-24T11:02:55{text}Z").started == STARTED.replace(microsecond=micros)


@pytest.mark.parametrize(
    "text",
    ["2026-09-24T13:02:55.564771+02:00", "2026-09-24T05:32:55.564771-05:30", "2026-09-24t11:02:55.564771z"]
    + ["2026-09-24 11:02:55.564771Z", "2026-09-24T11:02:55.564771+00:00", "2026-09-24T13:02:55.564771+0200"],
)
def test_started_may_have_an_offset(text):
    started = stats_with(started=text).started
    assert started == STARTED
    assert started.utcoffset() == timedelta(0)


def test_started_may_be_in_year_one():
    assert stats_with(started="0001-01-01T00:00:00Z").started == datetime(1, 1, 1, tzinfo=UTC)
    assert stats_with(started="0001-01-01T00:00:00+01:00").started.year == 1


def test_a_leap_second_reads_as_the_second_before():
    assert parse_time("2016-12-31T23:59:60Z") == datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-09-24",
        "2026-09-24T11:02:55",
        "2026-13-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "0000-01-01T00:00:00Z",
    ]
    + [
        "2026-09-24T25:00:00Z",
        "2026-09-24T11:02:55Z\n",
        "2026-09-24T11:02:55+24:00",
        "2026-09-24T11:02:55.Z",
        "٢٠٢٦-09-24T11:02:55Z",
    ],
)
def test_what_is_no_time_is_unknown(text):
    assert parse_time(text) == UNKNOWN_TIME


@pytest.fixture
def _far_from_utc(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "FAR-9")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no time.tzset")
@pytest.mark.usefixtures("_far_from_utc")
def test_times_are_in_utc_wherever_the_program_runs():
    assert datetime.now().astimezone().utcoffset() == timedelta(hours=9)
    started = stats_with(started="2026-09-24T13:02:55.564771+02:00").started
    assert (started, started.utcoffset()) == (STARTED, timedelta(0))
    assert format_time(STARTED) == "2026-09-24T11:02:55.564771Z"
    assert format_time(STARTED.astimezone()) == "2026-09-24T11:02:55.564771Z"


def test_times_are_written_in_utc_with_microseconds():
    moment = datetime(2026, 9, 24, 13, 2, 55, tzinfo=timezone(timedelta(hours=2)))
    assert format_time(moment) == "2026-09-24T11:02:55.000000Z"
    assert format_time(datetime(1, 1, 1, tzinfo=UTC)) == "0001-01-01T00:00:00.000000Z"


@given(st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_times_come_back_as_they_were_written(moment):
    assert parse_time(format_time(moment)) == moment


@KINDS
@pytest.mark.parametrize("null", [True, False])
def test_optional_fields_may_be_null_or_missing(kind, null):
    optional = dict.fromkeys(("metadata", "description", "endpoints", "type")) if null else {}
    reply = kind.from_json(json.dumps({**WHO, "started": "2026-09-24T11:02:55Z", **optional}).encode())
    assert reply.metadata == {}
    assert getattr(reply, "description", "") == ""
    assert getattr(reply, "endpoints", ()) == ()


@pytest.mark.parametrize("null", [True, False])
def test_an_endpoints_fields_may_be_null_or_missing(null):
    optional = (
        "queue_group",
        "num_requests",
        "num_errors",
        "last_error",
        "processing_time",
        "average_processing_time",
        "data",
    )
    assert endpoint_with(**(dict.fromkeys(optional) if null else {})) == EndpointStats(name="add", subject="math.add")


def test_an_endpoint_of_info_may_lack_queue_group_and_metadata():
    value = {**WHO, "endpoints": [{"name": "add", "subject": "a", "metadata": None}]}
    assert ServiceInfo.from_json(json.dumps(value).encode()).endpoints == (EndpointInfo(name="add", subject="a"),)


@KINDS
def test_unknown_fields_are_ignored(kind):
    value = {
        **WHO,
        "started": "2026-09-24T11:02:55Z",
        "new": {"x": 1},
        "endpoints": [{"name": "a", "subject": "a", "new": 1}],
    }
    assert kind.from_json(json.dumps(value).encode()).name == "calc"


def test_stats_may_lack_metadata():
    value = json.loads(STATS_BYTES)
    del value["metadata"]
    assert ServiceStats.from_json(json.dumps(value).encode()) == STATS


def test_counters_may_be_written_as_floats():
    assert endpoint_with(num_requests=7.0).num_requests == 7
    assert type(endpoint_with(num_requests=7.0).num_requests) is int


def test_data_may_be_any_json():
    assert endpoint_with(data={"a": [1, None]}).data == {"a": [1, None]}


@pytest.mark.parametrize(
    ("data", "failures", "malformed"),
    [
        ({"natsery": {"failures": {"timeout": 3, "a": 1.0}, "malformed": 1, "pending": 5}}, {"timeout": 3, "a": 1}, 1),
        ({"natsery": {"failures": {"timeout": "3", "b": True, "c": None, "d": 0}, "malformed": []}}, {}, 0),
        ({"natsery": {"failures": [1]}}, {}, 0),
        ({"natsery": "mine"}, {}, 0),
        ({"other": {"failures": {"timeout": 3}}}, {}, 0),
        (["natsery"], {}, 0),
        (None, {}, 0),
    ],
)
def test_details_are_read_from_the_data(data, failures, malformed):
    stats = endpoint_with(data=data)
    assert (stats.failures, stats.malformed, stats.data) == (failures, malformed, data)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"null", b"[]", b"5", b'"x"', b"{}", b"\xff", b"\0", PING_BYTES[:-1], b"[" * 100_000, b"1" * 5000],
)
@KINDS
def test_what_is_no_reply_is_refused(kind, data):
    with pytest.raises(MalformedReplyError):
        kind.from_json(data)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", None),
        ("name", ""),
        ("name", 5),
        ("id", None),
        ("id", []),
        ("type", "x"),
    ],
)
def test_fields_of_a_wrong_kind_are_refused(field, value):
    with pytest.raises(MalformedReplyError):
        stats_with(**{field: value})


@pytest.mark.parametrize("endpoints", [{}, "x", [None], [{}], [{"name": "", "subject": "a"}], [{"name": "a"}]])
def test_endpoints_without_a_name_or_a_subject_are_left_out(endpoints):
    assert stats_with(endpoints=endpoints).endpoints == ()


def test_a_reply_of_another_type_is_refused():
    with pytest.raises(MalformedReplyError, match="ping_response"):
        ServiceInfo.from_json(PING_BYTES)


def test_replies_are_read_only():
    reply = ServicePing.from_json(PING_BYTES)
    for each in (reply, PING, ServicePing.from_json(b'{"name":"calc","id":"x"}')):
        with pytest.raises(TypeError):
            each.metadata["a"] = "b"
    with pytest.raises(AttributeError):
        reply.name = "x"


@KINDS
@given(data=st.binary())
def test_arbitrary_bytes_raise_nothing_else(kind, data):
    with pytest.raises(MalformedReplyError):
        kind.from_json(data)


@KINDS
@settings(max_examples=3 * settings.default.max_examples)
@given(data=corpus.damaged(corpus.REPLIES, corpus.JSON_WORDS))
def test_damaged_replies_are_read_as_they_can_be_written_or_refused(kind, data):
    try:
        reply = kind.from_json(data)
    except MalformedReplyError:
        return
    assert kind.from_json(reply.to_json()).to_dict() == reply.to_dict()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@KINDS
@given(
    fields=st.dictionaries(
        st.sampled_from(["name", "id", "metadata", "description", "started", "endpoints", "type"]), JSON
    )
)
def test_arbitrary_fields_raise_nothing_else(kind, fields):
    data = json.dumps({**WHO, "started": "2026-09-24T11:02:55Z", **fields}).encode()
    with suppress(MalformedReplyError):
        assert isinstance(kind.from_json(data), kind)


@pytest.mark.parametrize("value", [object(), {1, 2}, float("nan"), float("inf"), b"x", "\ud800"])
def test_what_is_no_json_is_told(value):
    with pytest.raises((TypeError, ValueError)):
        check_json(value)


def test_json_is_let_through():
    check_json({"a": [1, 1.5, None, True, "é"]})
