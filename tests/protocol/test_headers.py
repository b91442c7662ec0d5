"""Header blocks, read."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from natsery._errors import MalformedMessageError
from natsery._headers import Headers
from natsery._protocol._headers import MAX_HEADERS, read_headers

from .. import corpus
from .streams import recorded

RECORDED = recorded("headers")


def block(*lines):
    return b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def pairs(*lines):
    headers, status, description = read_headers(block(b"NATS/1.0", *lines))
    assert (status, description) == (0, "")
    return headers.multi_items()


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (b"A: b", "b"),
        (b"A:b", "b"),
        (b"A:", ""),
        (b"A: \t ", ""),
        (b"A:  b  c\t", "b  c"),
        (b"A: http://h:80/:", "http://h:80/:"),
        (b"A::", ":"),
        (b"A: \xc3\xa9 \xf0\x9f\x98\x80", "é 😀"),
        (b"A: \xc2\xa0b", "\xa0b"),
        (b"A: \0", "\0"),
        (b"A: b\nC: d", "b\nC: d"),
    ],
)
def test_a_value_is_what_follows_the_first_colon_without_the_blanks_around_it(line, value):
    assert pairs(line) == [("A", value)]


def test_names_repeat_in_order_and_keep_their_case():
    assert pairs(b"a: 1", b"B: 2", b"A: 3", b"a: 1") == [("a", "1"), ("B", "2"), ("A", "3"), ("a", "1")]
    headers = read_headers(block(b"NATS/1.0", b"a: 1", b"A: 2")).headers
    assert headers.get_all("A") == ["1", "2"]


def test_no_headers():
    assert pairs() == []


@pytest.mark.parametrize("name", [b"a b", b"\xc3\xa9", b"A\0", b"(x)"])
def test_unusual_names_are_taken_as_they_are(name):
    assert pairs(name + b": 1") == [(name.decode(), "1")]


@pytest.mark.parametrize(
    ("line", "status", "description"),
    [
        (b"NATS/1.0 503", 503, ""),
        (b"NATS/1.0 503 ", 503, ""),
        (b"NATS/1.0 100 Idle Heartbeat", 100, "Idle Heartbeat"),
        (b"NATS/1.0 409 Message Size Exceeds MaxBytes", 409, "Message Size Exceeds MaxBytes"),
        (b"NATS/1.0 404  No Messages ", 404, "No Messages"),
        (b"NATS/1.0  408 Request Timeout", 408, "Request Timeout"),
        (b"NATS/1.0 200 \xc3\xa9: x", 200, "é: x"),
        (b"NATS/1.0 000", 0, ""),
        (b"NATS/1.0 ", 0, ""),
    ],
)
def test_status_lines(line, status, description):
    assert read_headers(block(line))[1:] == (status, description)
    headers, *rest = read_headers(block(line, b"Nats-Last: 1"))
    assert rest == [status, description]
    assert headers.multi_items() == [("Nats-Last", "1")]


@pytest.mark.parametrize(
    "damaged",
    [
        *(b"", b"\r\n", b"\r\n\r\n", b"NATS/1.0", b"NATS/1.0\r\n", b"NATS/1.0\n\n", b"NATS/1.0\r\nA: 1\r\n", b"NATS/1.0\r\nA: 1"),
        *(b"NATS/1.0\r\nA: 1\r\n\r", b"NATS/1.0\r\n\r\nx", block(b"A: 1"), block(b"nats/1.0"), block(b"NATS/1.1"), block(b"NATS/2.0")),
        *(block(b" NATS/1.0"), block(b"NATS/1.01"), block(b"NATS/1.0503"), block(b"NATS/1.0503 x"), block(b"NATS/1.0:")),
        *(block(b"HTTP/1.1 200 OK"), block(b"NATS/1.0 50"), block(b"NATS/1.0 5033"), block(b"NATS/1.0 -50"), block(b"NATS/1.0 x")),
        *(block(b"NATS/1.0 5x3"), block("NATS/1.0 ٥٠٣".encode()), block("NATS/1.0 ²²²".encode()), block(b"NATS/1.0 +50")),
        *(block(b"NATS/1.0", b"A"), block(b"NATS/1.0", b": 1"), block(b"NATS/1.0", b" : 1"), block(b"NATS/1.0", b"A : 1")),
        *(block(b"NATS/1.0", b" A: 1"), block(b"NATS/1.0", b"A: 1", b" folded"), block(b"NATS/1.0", b"A: 1", b"\tfolded: 2")),
        *(block(b"NATS/1.0", b"", b"A: 1"), block(b"NATS/1.0", b"A: 1", b""), block(b"NATS/1.0", b"A\n: 1")),
        *(block(b"NATS/1.0", b"A: \xff"), block(b"NATS/1.0", b"A: \xc3"), block(b"NATS/1.0 503 \xff"), block(b"NATS/1.0", b"A: \xed\xa0\x80")),
    ],
)  # fmt: skip
def test_damaged_blocks_are_malformed(damaged):
    with pytest.raises(MalformedMessageError):
        read_headers(damaged)


@pytest.mark.parametrize("text", RECORDED, ids=range(len(RECORDED)))
def test_what_servers_have_sent_comes_out_as_it_was_written(text):
    headers, status, description = read_headers(text)
    first = b"NATS/1.0" + (f" {status} {description}".rstrip().encode() if status else b"")
    assert first + headers.encode().removeprefix(b"NATS/1.0") == text


@settings(max_examples=3 * settings.default.max_examples)
@given(corpus.damaged(RECORDED, corpus.HEADER_WORDS))
def test_damaged_recordings_are_headers_or_malformed(text):
    try:
        headers, status, description = read_headers(text)
    except MalformedMessageError:
        return
    assert 0 <= status <= 999
    assert isinstance(description, str)
    again = read_headers(Headers.from_wire(headers.multi_items()).encode()).headers
    assert again.multi_items() == headers.multi_items()


@settings(max_examples=300)
@given(st.binary(), st.booleans())
def test_any_bytes_are_headers_or_malformed(text, is_framed):
    try:
        headers, status, description = read_headers(b"NATS/1.0" + text + b"\r\n\r\n" if is_framed else text)
    except MalformedMessageError:
        return
    assert 0 <= status <= 999
    assert isinstance(description, str)
    assert all(name for name, _ in headers.multi_items())


@given(st.lists(st.tuples(st.text("aB-_1"), st.text())))
def test_what_is_encoded_is_read_again(given_pairs):
    try:
        headers = Headers(given_pairs)
    except ValueError:
        return
    assert read_headers(headers.encode()).headers.multi_items() == headers.multi_items()


def test_a_block_takes_no_more_memory_than_its_bytes_until_it_is_looked_at():
    """A megabyte of tiny headers became 29 megabytes of strings, for each request that waited."""
    damage = block(b"NATS/1.0", *[b"abc: def"] * MAX_HEADERS)
    read_headers(damage)
    tracemalloc.start()
    try:
        held = [read_headers(damage).headers for _ in range(10)]
        assert tracemalloc.get_traced_memory()[0] < len(damage)
    finally:
        tracemalloc.stop()
    assert held[0].get_all("abc") == ["def"] * MAX_HEADERS


def test_there_is_a_limit_to_the_number_of_headers():
    assert len(pairs(*[b"a: b"] * MAX_HEADERS)) == MAX_HEADERS
    with pytest.raises(MalformedMessageError, match="more than 4096 headers"):
        pairs(*[b"a: b"] * (MAX_HEADERS + 1))


def test_headers_know_how_much_of_the_wire_they_take():
    text = block(b"NATS/1.0", b"A: 1", "B: é".encode(), b"a: 2")
    headers = read_headers(text).headers
    assert headers._wire_size == len(text)
    assert headers.multi_items() == [("A", "1"), ("B", "é"), ("a", "2")]
    assert headers._wire_size == len(text)
    assert Headers.from_wire(headers.multi_items())._wire_size == len(text)
    assert Headers.from_wire([])._wire_size == 0
    assert Headers()._wire_size == 0


def test_headers_can_be_looked_at_in_any_order():
    text = block(b"NATS/1.0", b"A: 1", b"B: 2", b"a: 3")
    assert read_headers(text).headers["b"] == "2"
    assert "a" in read_headers(text).headers
    assert "c" not in read_headers(text).headers
    assert len(read_headers(text).headers) == 2
    assert list(read_headers(text).headers) == ["A", "B"]
    assert read_headers(text).headers.get_all("A") == ["1", "3"]
    assert read_headers(text).headers == read_headers(text).headers
    assert hash(read_headers(text).headers) == hash(Headers([("A", "1"), ("B", "2"), ("a", "3")]))
    assert repr(read_headers(text).headers) == "Headers([('A', '1'), ('B', '2'), ('a', '3')])"
    assert Headers(read_headers(text).headers).encode() == text
