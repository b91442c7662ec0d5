"""The stream of a server, cut into events."""

from __future__ import annotations

import random
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from natsery import ProtocolError
from natsery._protocol._parser import (
    LARGE_MESSAGE,
    MAX_CONTROL_LINE,
    MAX_MESSAGE_SIZE,
    ErrorEvent,
    InfoEvent,
    Parser,
    Signal,
)

from .. import corpus
from .streams import PROTOCOL_TEXT, bytewise, comparable, cut, damaged, encode, events, msg

generated = settings(max_examples=3 * settings.default.max_examples)


def feed(*pieces):
    parser = Parser()
    return [event for piece in pieces for event in parser.feed(piece)]


def reason_of(stream):
    """The one error that a stream ends in, however it is cut."""
    whole = feed(stream)
    assert isinstance(whole[-1], ProtocolError)
    assert comparable(feed(*bytewise(stream))) == comparable(whole)
    assert comparable(feed(stream + b"\t")) == comparable(whole)
    return whole[-1].reason


@generated
@given(st.lists(events, max_size=8), st.data())
def test_what_is_encoded_is_read_again_however_it_is_cut(wanted, data):
    stream = b"".join(map(encode, wanted))
    positions = data.draw(st.lists(st.integers(0, len(stream)), max_size=10))
    assert feed(stream) == wanted
    assert feed(*cut(stream, positions)) == wanted
    assert feed(*bytewise(stream[:4000]), stream[4000:]) == wanted


@generated
@given(damaged(), st.data())
def test_damaged_frames_give_the_same_outcome_however_they_are_cut(stream, data):
    outcome = feed(stream)
    positions = data.draw(st.lists(st.integers(0, len(stream)), max_size=6))
    assert comparable(feed(*cut(stream, positions))) == comparable(outcome)
    assert comparable(feed(*bytewise(stream))) == comparable(outcome)
    assert_documented(outcome)


@generated
@given(corpus.damaged(corpus.STREAMS, PROTOCOL_TEXT), st.data())
def test_damaged_recordings_give_the_same_outcome_however_they_are_cut(stream, data):
    outcome = feed(stream)
    positions = data.draw(st.lists(st.integers(0, len(stream)), max_size=6))
    assert comparable(feed(*cut(stream, positions))) == comparable(outcome)
    assert comparable(feed(*bytewise(stream))) == comparable(outcome)
    assert_documented(outcome)


@pytest.mark.parametrize("stream", corpus.STREAMS, ids=range(len(corpus.STREAMS)))
def test_what_servers_have_sent_is_read_whole(stream):
    parser = Parser()
    outcome = parser.feed(stream)
    assert parser.is_between_events
    assert_documented(outcome)
    assert not isinstance(outcome[-1], ProtocolError)
    assert b"".join(map(encode, outcome)) == stream
    assert feed(*bytewise(stream)) == outcome


def assert_documented(outcome):
    for event in outcome[:-1]:
        assert isinstance(event, (tuple, Signal, InfoEvent, ErrorEvent))
    for event in outcome[-1:]:
        assert isinstance(event, (tuple, Signal, InfoEvent, ErrorEvent, ProtocolError))
    for event in outcome:
        if isinstance(event, tuple):
            assert [type(each) for each in event] == [bytes] * 5


@generated
@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
@example(b"\tMSG a 1 0\r\n\r\n", [])
@example(b"MSG a\t 1 0\r\n\r\n", [])
@example(b"INFO\r\n", [])
@example(b"-ERR\r\n", [])
@example(b"MSG\r\n", [])
@example(b"HMSG\r\nMSG a 1 0\r\n\r\n", [])
@example(b" MSG a 1 0\r\n\r\n", [])
def test_any_bytes_give_the_same_outcome_however_they_are_cut(stream, positions):
    outcome = feed(stream)
    positions = [position for position in positions if position <= len(stream)]
    assert_documented(outcome)
    assert comparable(feed(*cut(stream, positions))) == comparable(outcome)
    assert comparable(feed(*bytewise(stream))) == comparable(outcome)


def test_ten_million_random_bytes_give_documented_events_only():
    """Half of them noise, half of them pieces of protocol in a random order."""
    dice = random.Random(32)
    words = [
        *(b"MSG a 1 ", b"HMSG a 1 r ", b"12 ", b"3", b"\r\n", b"\r\n\r\n", b"PING\r\n", b"INFO {}\r\n", b"+OK\r\n"),
        *(b"-ERR 'x'\r\n", b"MSG a 1 2\r\n\r\n\r\n", b"HMSG a 1 2 2\r\nab\r\n", b"x" * 100, b" ", b"\r"),
    ]
    parser, count, failures = Parser(), 0, 0
    while count < 10_000_000:
        if dice.random() < 0.01:
            chunk = dice.randbytes(100_000)
        else:
            chunk = b"".join(dice.choices(words, k=dice.randrange(60)))
        count += len(chunk)
        outcome = parser.feed(chunk)
        assert_documented(outcome)
        if outcome and isinstance(outcome[-1], ProtocolError):
            assert parser.feed(b"PING\r\n") == []
            parser, failures = Parser(), failures + 1
    assert failures > 1000


# Each kind of event, and its edges


@pytest.mark.parametrize(
    ("stream", "event"),
    [
        (b"PING\r\n", Signal.PING),
        (b"PONG\r\n", Signal.PONG),
        (b"+OK\r\n", Signal.OK),
        (b"INFO {}\r\n", InfoEvent(b"{}")),
        (b"INFO \r\n", InfoEvent(b"")),
        (b'INFO {"a": "b c"} \r\n', InfoEvent(b'{"a": "b c"} ')),
        (b"-ERR 'Stale Connection'\r\n", ErrorEvent("Stale Connection")),
        (b"-ERR no quotes\r\n", ErrorEvent("no quotes")),
        (b"-ERR \r\n", ErrorEvent("")),
        (b"-ERR ''\r\n", ErrorEvent("")),
        (b"-ERR '\xff'\r\n", ErrorEvent("\ufffd")),
        (b"MSG a 1 0\r\n\r\n", (b"1", b"a", b"", b"", b"")),
        (b"MSG a 1 r 2\r\n\r\n\r\n", (b"1", b"a", b"r", b"", b"\r\n")),
        (b"MSG \xff 1 1\r\nx\r\n", (b"1", b"\xff", b"", b"", b"x")),
        (b"MSG a 1 007\r\n1234567\r\n", (b"1", b"a", b"", b"", b"1234567")),
        (b"HMSG a 1 2 3\r\nabc\r\n", (b"1", b"a", b"", b"ab", b"c")),
        (b"HMSG a 1 r 3 3\r\nabc\r\n", (b"1", b"a", b"r", b"abc", b"")),
        (b"HMSG a 1 0 0\r\n\r\n", (b"1", b"a", b"", b"", b"")),
        (b"HMSG a 1 0 2\r\nab\r\n", (b"1", b"a", b"", b"", b"ab")),
    ],
)
def test_a_frame_is_one_event(stream, event):
    assert feed(stream) == [event]
    assert feed(*bytewise(stream)) == [event]


@pytest.mark.parametrize("size", [1, 4095, 4096, 65_535, 65_536, 3_000_000])
@pytest.mark.parametrize("filling", [b"x", b"\r\n", b"\r", b"\n"])
def test_large_payloads_come_out_whole(size, filling):
    event = (b"1", b"a", b"", b"", (filling * size)[:size])
    stream = encode(event)
    assert feed(stream) == [event]
    assert feed(*(stream[start : start + 65_536] for start in range(0, len(stream), 65_536))) == [event]
    assert feed(stream + b"PING\r\n") == [event, Signal.PING]


def test_a_large_message_ends_where_its_size_says():
    stream = msg(b"1", b"a", b"", b"", b"x" * 2 * LARGE_MESSAGE)
    assert reason_of(stream[:-2] + b"x\r\n") == reason_of(b"MSG a 1 1\r\nxx\r\n")


def test_the_largest_message_is_taken():
    line = b"MSG a 1 %d\r\n" % MAX_MESSAGE_SIZE
    piece = b"x" * (1024 * 1024)
    (event,) = feed(line, *[piece] * 64, b"\r\n")
    assert len(event[4]) == MAX_MESSAGE_SIZE


def test_it_is_known_whether_all_has_come_out():
    parser = Parser()
    assert parser.is_between_events
    for piece, is_between in [
        (b"PI", False),
        (b"NG\r\n", True),
        (b"MSG a 1 0\r\n", False),
        (b"\r", False),
        (b"\n", True),
    ]:
        parser.feed(piece)
        assert parser.is_between_events is is_between


# What is no protocol

UNKNOWN = "unknown operation"
SEPARATORS = "fields must be separated by one space"
NO_NUMBER = "a size must be a number"
TOO_LARGE = f"a message is larger than {MAX_MESSAGE_SIZE} bytes"
TOO_LONG = "a message is longer than its size says"


@pytest.mark.parametrize(
    "line",
    [
        *(b"", b" ", b"\t", b"\r", b"\n", b"\0", b"X", b"msg a 1 0", b"Msg a 1 0", b"hmsg a 1 0 0", b"ping", b"Pong"),
        *(b"+ok", b"-err 'x'", b"info {}", b"PING ", b" PING", b"PING\r", b"PING\n", b"PINGPONG", b"+OK+OK", b"PING x"),
        *(b"INFO", b"INFO{}", b"INFO\t{}", b"-ERR", b"-ERR'x'", b"MSG", b"MSG\t", b"HMSG", b"MSGa 1 0", b"MSG\ta 1 0"),
        *(
            b" MSG a 1 0",
            b"\tMSG a 1 0",
            b"\x0bMSG a 1 0",
            b"\nMSG a 1 0",
            b"HTTP/1.1 400 Bad Request",
            b"\x16\x03\x01",
        ),
        *(b"SUB a 1", b"PUB a 0", b"CONNECT {}", b"RMSG a b 0", b"\xef\xbb\xbfPING"),
    ],
)
def test_unknown_operations_end_the_stream(line):
    assert reason_of(line + b"\r\n\r\n") == UNKNOWN


@pytest.mark.parametrize(
    "line",
    [
        *(b"MSG  a 1 0", b"MSG a  1 0", b"MSG a 1  0", b"MSG a 1 0 ", b"MSG a 1 0\t", b"MSG a 1 0\r", b"MSG a 1 0\n"),
        *(
            b"MSG a\t1 0",
            b"MSG a\t 1 0",
            b"MSG a \t1 0",
            b"MSG a\x0b1 0",
            b"MSG a 1\x0c 0",
            b"MSG a 1\r 0",
            b"MSG a\n1 0",
        ),
        *(b"MSG \ta 1 0", b"HMSG a 1  0 0", b"HMSG a\t 1 0 0", b"HMSG a 1 0 0 ", b"HMSG a 1 0\t 0"),
    ],
)
def test_fields_are_separated_by_one_space(line):
    assert reason_of(line + b"\r\n\r\n") == SEPARATORS


@pytest.mark.parametrize("line", [b"MSG ", b"MSG a", b"MSG a 1", b"MSG a 1 ", b"MSG a 1 r 0 0", b"MSG a 1 r x 0 0"])
def test_msg_has_a_fixed_number_of_fields(line):
    assert reason_of(line + b"\r\n\r\n") == "MSG has a wrong number of fields"


@pytest.mark.parametrize("line", [b"HMSG ", b"HMSG a", b"HMSG a 1 0", b"HMSG a 1 0 ", b"HMSG a 1 r 0 0 0"])
def test_hmsg_has_a_fixed_number_of_fields(line):
    assert reason_of(line + b"\r\n\r\n") == "HMSG has a wrong number of fields"


NO_NUMBERS = ["+1", "-1", "1_0", "0x1", "1.0", "1e3", "a", "٣", "١", "²", "𝟙", "\xa01", "1\0", "-0", "9" * 10, "0" * 10, "9" * 5000]  # fmt: skip


@pytest.mark.parametrize("size", NO_NUMBERS, ids=range(len(NO_NUMBERS)))
def test_sizes_are_digits(size):
    assert reason_of(b"MSG a 1 %b\r\n" % size.encode()) == NO_NUMBER
    assert reason_of(b"HMSG a 1 %b 9\r\n" % size.encode()) == NO_NUMBER
    assert reason_of(b"HMSG a 1 0 %b\r\n" % size.encode()) == NO_NUMBER


@pytest.mark.parametrize("size", [MAX_MESSAGE_SIZE + 1, 999_999_999])
def test_giant_sizes_are_refused_before_anything_of_the_message_is_kept(size):
    assert reason_of(b"MSG a 1 %d\r\n" % size) == TOO_LARGE
    assert reason_of(b"HMSG a 1 1 %d\r\n" % size) == TOO_LARGE
    assert reason_of(b"HMSG a 1 %d 9\r\n" % size) == TOO_LARGE


@pytest.mark.parametrize("sizes", [b"1 0", b"3 2", b"5000 4999", b"67108864 0"])
def test_headers_are_not_longer_than_the_message(sizes):
    assert reason_of(b"HMSG a 1 %b\r\nxxxxx\r\n" % sizes) == "the headers are longer than the message"


@pytest.mark.parametrize(
    "stream",
    [
        *(
            b"MSG a 1 1\r\nxx\r\n",
            b"MSG a 1 1\r\nx\n\n",
            b"MSG a 1 1\r\nx\r\r\n",
            b"MSG a 1 1\r\nx\n\r\n",
            b"MSG a 1 0\r\nx\r\n",
        ),
        *(b"MSG a 1 2\r\nx\r\n\r\n", b"MSG a 1 3\r\nx\r\n\n\n", b"MSG a 1 1\r\nxPING\r\n", b"HMSG a 1 1 2\r\nxyz\r\n"),
        b"MSG a 1 4\r\n\r\n\r\nx\r\n",
    ],
)
def test_a_message_ends_where_its_size_says(stream):
    if stream == b"MSG a 1 2\r\nx\r\n\r\n":
        # Its two bytes are "x\r", and "\n\r" is no end.
        assert feed(stream)[-1].received == b"\n\r\n"
    assert reason_of(stream) == TOO_LONG


def test_a_short_message_takes_what_follows_as_its_own():
    assert feed(b"MSG a 1 8\r\nx\r\nPING\r\n") == []
    assert feed(b"MSG a 1 7\r\nx\r\nPING\r\n") == [(b"1", b"a", b"", b"", b"x\r\nPING")]


def test_what_came_before_an_error_is_delivered_and_nothing_after_it_is():
    parser = Parser()
    *before, error = parser.feed(b"PING\r\nMSG a 1 1\r\nx\r\nnonsense\r\nPING\r\n")
    assert before == [Signal.PING, (b"1", b"a", b"", b"", b"x")]
    assert error.received == b"nonsense"
    assert parser.feed(b"PING\r\n") == []


def test_an_error_shows_only_the_beginning_of_what_was_received():
    (error,) = feed(b"x" * 60_000 + b"\r\n")
    assert error.received == b"x" * 100


def test_a_stream_that_is_not_nats_is_known_by_its_first_bytes():
    assert [type(event) for event in feed(b"H", b"T")] == [ProtocolError]


# Long lines

LINE_TOO_LONG = f"a line is longer than {MAX_CONTROL_LINE} bytes"


def line_of(start, end, size):
    return start + b"a" * (size - len(start) - len(end)) + end


LINES = [(b"MSG ", b" 1 2"), (b"MSG a 1 ", b" 2"), (b"HMSG ", b" 1 0 2"), (b"INFO {", b"}"), (b"-ERR '", b"'")]


@pytest.mark.parametrize(("start", "end"), LINES, ids=range(len(LINES)))
def test_the_longest_line_is_taken_however_it_is_cut(start, end):
    line = line_of(start, end, MAX_CONTROL_LINE)
    body = b"\r\nxx\r\n" if b"MSG" in start else b"\r\n"
    (event,) = feed(line + body)
    assert not isinstance(event, ProtocolError)
    assert feed(line, body) == [event]
    assert feed(line + b"\r", body[1:]) == [event]
    assert feed(line[:-1], line[-1:] + b"\r\n", body[2:]) == [event]


@pytest.mark.parametrize(("start", "end"), [*LINES, (b"MSG ", b""), (b"MSG  ", b""), (b"HMSG a 1 ", b" x")])
@pytest.mark.parametrize("surplus", [1, 2, 5000])
@pytest.mark.parametrize("before", [b"", b"PING\r\n" * 20_000], ids=["alone", "after others"])
def test_longer_lines_are_refused_however_they_are_cut(start, end, surplus, before):
    line = line_of(start, end, MAX_CONTROL_LINE + surplus)
    stream = before + line + b"\r\nxx\r\n"
    outcome = comparable(feed(stream))
    assert outcome == [Signal.PING] * (len(before) // 6) + [("error", LINE_TOO_LONG)]
    near = len(before) + MAX_CONTROL_LINE
    for position in [1, len(before) + 1, near - 1, near, near + 1, near + 2, len(stream) - 7, len(stream) - 5]:
        assert comparable(feed(*cut(stream, [position]))) == outcome
    assert comparable(feed(stream[:-6])) == outcome


@pytest.mark.parametrize("start", [b"x", b"\r", b"MSGx", b" MSG a", b"INFOx"])
def test_a_long_line_of_an_unknown_operation_is_unknown_however_it_is_cut(start):
    line = line_of(start, b"", MAX_CONTROL_LINE + 10)
    assert comparable(feed(line + b"\r\n")) == [("error", UNKNOWN)]
    assert comparable(feed(line)) == [("error", UNKNOWN)]
    assert comparable(feed(line[:10], line[10:])) == [("error", UNKNOWN)]


# What is kept


def kept(parser):
    """Bytes of memory that a parser holds."""
    held, seen = [getattr(parser, name) for name in Parser.__slots__], 0
    while held:
        each = held.pop()
        seen += sys.getsizeof(each)
        if isinstance(each, (list, tuple)):
            held.extend(each)
    return seen


def test_an_endless_line_is_not_kept():
    parser = Parser()
    outcome = parser.feed(b"INFO ")
    largest = 0
    while not outcome:
        outcome = parser.feed(b"x" * 1000)
        largest = max(largest, kept(parser))
    assert largest < MAX_CONTROL_LINE + 1000
    assert comparable(outcome) == [("error", LINE_TOO_LONG)]
    assert kept(parser) < 1000


def test_an_announced_message_takes_no_memory_before_it_comes():
    parser = Parser()
    parser.feed(b"MSG a 1 %d\r\n" % MAX_MESSAGE_SIZE)
    assert kept(parser) < 1000


@pytest.mark.parametrize("piece", [1, 2, 3, 1000])
def test_a_message_that_comes_in_drops_takes_little_more_than_its_bytes(piece):
    """Each drop was kept as an object of its own, dozens of times as large."""
    parser = Parser()
    parser.feed(b"MSG a 1 300000\r\n")
    for count in range(0, 299_000, piece):
        assert not parser.feed(b"x" * piece)
        if count % 50_000 == 0:
            assert kept(parser) < 1.2 * count + 2000
    assert kept(parser) < 400_000


def test_a_message_longer_than_its_size_is_not_kept():
    parser = Parser()
    parser.feed(b"MSG a 1 10\r\n")
    assert comparable(parser.feed(b"x" * 1_000_000)) == [("error", TOO_LONG)]
    assert parser.feed(b"x" * 1_000_000) == []
    assert kept(parser) < 1000


def test_nothing_is_kept_of_what_has_come_out():
    parser = Parser()
    parser.feed(msg(b"1", b"a", b"", b"", b"x" * 1_000_000)[:-1])
    parser.feed(b"\nPING\r\n")
    assert parser.is_between_events
    assert kept(parser) < 1000
