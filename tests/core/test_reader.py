"""The reader: both forms deliver, tell and count the same of the same stream, however it is cut."""

from __future__ import annotations

import gc
import logging
import weakref

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from natsery import ProtocolError
from natsery._protocol._parser import MAX_CONTROL_LINE, MAX_MESSAGE_SIZE

from .. import corpus
from ..protocol.streams import PROTOCOL_TEXT, bytewise, cut, damaged, encode, events, msg, payloads, tokens
from .forms import BOTH, COMPILED, PLAIN, message_type, needs_both, subscription
from .reading import Listener, assert_alike

generated = settings(max_examples=3 * settings.default.max_examples)


# Messages that are delivered more often than those of the parser, and go wrong where a reader looks

sids = st.one_of(st.sampled_from([b"1", b"2", b"3"]), tokens)
subjects = st.one_of(st.sampled_from([b"a", "é.x".encode(), b"b.c", b"\xff", b"a\xc3", b"\xed\xa0\x80"]), tokens)
replies = st.one_of(st.sampled_from([b"", b"r", b"_INBOX.x.1", b"\xfe", "ü".encode()]), tokens)
headers = st.sampled_from(
    [
        b"",
        b"NATS/1.0\r\n\r\n",
        b"NATS/1.0\r\nA: 1\r\nB:2\r\n\r\n",
        b"NATS/1.0 503\r\n\r\n",
        b"NATS/1.0 100 Idle Heartbeat\r\nA: 1\r\n\r\n",
        b"NATS/1.0\r\nA: \xff\r\n\r\n",
        b"NATS/1.0\r\nA",
        b"nonsense",
        b"\r\n",
    ]
)
messages = st.tuples(sids, subjects, replies, st.one_of(headers, payloads), payloads)
streams = st.lists(st.one_of(messages, messages, messages, events), max_size=8).map(
    lambda each: b"".join(map(encode, each))
)


@needs_both
@generated
@given(streams, st.data())
def test_both_forms_read_the_same_however_it_is_cut(stream, data):
    assert_alike(stream)
    assert_alike(*cut(stream, data.draw(st.lists(st.integers(0, len(stream)), max_size=10))))
    assert_alike(*bytewise(stream[:4000]), stream[4000:])


@needs_both
@settings(max_examples=30)
@given(streams)
def test_both_forms_read_the_same_cut_once_anywhere(stream):
    stream = stream[:400]
    for position in range(len(stream) + 1):
        assert_alike(stream[:position], stream[position:])


@needs_both
@generated
@given(damaged(), st.data())
def test_both_forms_read_the_same_of_damaged_streams(stream, data):
    assert_alike(stream)
    assert_alike(*cut(stream, data.draw(st.lists(st.integers(0, len(stream)), max_size=6))))
    assert_alike(*bytewise(stream))


@needs_both
@generated
@given(corpus.damaged(corpus.STREAMS, PROTOCOL_TEXT), st.data())
def test_both_forms_read_the_same_of_damaged_recordings(stream, data):
    assert_alike(stream)
    assert_alike(*cut(stream, data.draw(st.lists(st.integers(0, len(stream)), max_size=6))))


@needs_both
@generated
@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
@example(b"\tMSG a 1 0\r\n\r\n", [])
@example(b"MSG a\t 1 0\r\n\r\n", [])
@example(b"MSG a 1 0\r\n\r\nMSG", [])
@example(b"HMSG\r\nMSG a 1 0\r\n\r\n", [])
def test_both_forms_read_the_same_of_any_bytes(stream, positions):
    assert_alike(*cut(stream, [position for position in positions if position <= len(stream)]))
    assert_alike(*bytewise(stream))


LINES = [
    *(b"MSG a 1 0", b"MSG a 1 r 0", b"HMSG a 1 0 0", b"HMSG a 1 r 0 0", b"HMSG a 1 r 12 12", b"MSG a 1 007"),
    *(b"MSG  a 1 0", b"MSG a  1 0", b"MSG a 1  0", b"MSG a 1 0 ", b" MSG a 1 0", b"MSG a 1\t0", b"MSG a\x0b1 0"),
    *(
        b"MSG a 1 0\x0c",
        b"MSG a 1 \r0",
        b"MSG a\n1 0",
        b"MSG a\0 1 0",
        b"MSG a 1 r 0 0 0 0 0",
        b"MSG",
        b"MSG a",
        b"MSG ",
    ),
    *(
        b"HMSG a 1 0",
        b"HMSG a 1 r 0 0 0",
        b"HMSG a 1 1 0",
        b"HMSG a 1 x 0",
        b"HMSG a 1 0 x",
        b"MSG a 1 -1",
        b"MSG a 1 +1",
    ),
    *(b"MSG a 1 1_0", b"MSG a 1 9999999999", b"MSG a 1 999999999", b"MSG a 1 %d" % (MAX_MESSAGE_SIZE + 1)),
    *(
        b"MSG a 1 0000000000",
        b"MSG a 1 000000000",
        b"HMSG a 1 000000000 000000000",
        b"MSGA a 1 0",
        b"msg a 1 0",
        b"MSG\ta 1 0",
    ),
    *(
        b"INFO {}",
        b"INFO a\tb",
        b"INFO a  b",
        b"INFO ",
        b"INFO",
        b"-ERR 'a  b'",
        b"-ERR\t",
        b"PING ",
        b"+OK",
        b"PONG\t",
        b"",
    ),
    b"a " * 300,
    b"MSG " * 300,
]
BODIES = [b"\r\n", b"\r\n\r\n", b"1234567\r\n", b"NATS/1.0\r\n\r\n\r\n", b"x\r\n", b"\r\r\n", b"\n\n", b"PING\r\n"]


@needs_both
@pytest.mark.parametrize("line", LINES, ids=range(len(LINES)))
def test_both_forms_take_the_same_lines_cut_anywhere(line):
    for body in BODIES:
        stream = b"MSG a 1 1\r\nx\r\n" + line + b"\r\n" + body + b"PONG\r\n"
        assert_alike(*bytewise(stream))
        for position in range(0, len(stream), 1 + len(stream) // 200):
            assert_alike(stream[:position], stream[position:])


@needs_both
@pytest.mark.parametrize("start", [b"MSG a 1 ", b"MSG ", b"HMSG a 1 ", b"INFO ", b"-ERR ", b"nonsense", b"MSG a 1 \t"])
@pytest.mark.parametrize("surplus", [-1, 0, 1, 2, 3000])
def test_both_forms_take_lines_of_the_same_length(start, surplus):
    line = start + b"x" * (MAX_CONTROL_LINE + surplus - len(start) - 2) + b" 0"
    stream = b"PING\r\n" + line + b"\r\n\r\nPONG\r\n"
    near = [1, MAX_CONTROL_LINE, *range(len(stream) - 14, len(stream))]
    assert_alike(stream)
    for position in near:
        assert_alike(stream[:position], stream[position:])
        assert_alike(*cut(stream, [7, position]))
    assert_alike(*[stream[at : at + 1000] for at in range(0, len(stream), 1000)])


@needs_both
@pytest.mark.parametrize("size", [0, 1, 2, 4095, 4096, 65_535, 65_536, 65_537, 200_000])
@pytest.mark.parametrize("filling", [b"x", b"\r\n", b"\r", b"\n"])
@pytest.mark.parametrize("header", [b"", b"NATS/1.0\r\nA: 1\r\n\r\n"])
def test_both_forms_read_payloads_of_all_sizes(size, filling, header):
    message = msg(b"1", b"a", b"r", header, (filling * size)[:size])
    stream = b"MSG a 1 0\r\n\r\n" + message + b"PING\r\nMSG a 1 1\r\nx\r\n"
    for step in (1, 7, 1000, 65_536, len(stream)):
        if len(stream) / step <= 100_000:
            assert_alike(*[stream[at : at + step] for at in range(0, len(stream), step)])
    for position in range(len(stream) - 30, len(stream)):
        assert_alike(stream[:position], stream[position:])
        assert_alike(*cut(stream, [20, position]))


@needs_both
@pytest.mark.parametrize("end", [b"xx", b"\r\r", b"\n\n", b"\rx", b"x\n", b"\n\r"])
def test_both_forms_say_the_same_of_a_message_that_is_too_long(end):
    stream = b"MSG a 1 3\r\nabc" + end + b"y" * 300
    for position in range(20):
        seen = assert_alike(stream[:position], stream[position:])
        assert "a message is longer than its size says" in str(seen)
    assert_alike(*bytewise(stream))
    assert_alike(stream[:12], stream[12:14], stream[14:15], stream[15:16], stream[16:])


@needs_both
@generated
@given(streams, st.sets(st.sampled_from(["1", "2", "3"]), min_size=1), st.data())
def test_both_forms_go_on_and_log_the_same_when_receivers_raise(stream, raising, data):
    pieces = cut(stream, data.draw(st.lists(st.integers(0, len(stream)), max_size=4)))
    logged = []
    handler = logging.Handler()
    handler.emit = lambda record: logged.append((record.getMessage(), record.levelname, str(record.exc_info[1])))
    logger = logging.getLogger("natsery")
    logger.addHandler(handler)
    logger.propagate = False
    try:
        plain = Listener(PLAIN, raising).feed(*pieces)
        plainly, logged = logged, []
        compiled = Listener(COMPILED, raising).feed(*pieces)
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
    assert (compiled, logged) == (plain, plainly)


# What each form has to do


@pytest.mark.parametrize("form", BOTH)
def test_subscriptions_may_come_and_go_while_a_chunk_is_read(form):
    listener = Listener(form)
    added = subscription(form, "c", listener.receiver("4", ()))

    def on_event(event):
        listener.subscriptions.pop(b"1", None)
        listener.subscriptions[b"4"] = added

    reader = form.Reader(listener.subscriptions, on_event, None)
    message = b"MSG a 1 1\r\nx\r\nMSG c 4 1\r\ny\r\n"
    assert reader.feed(message + b"PING\r\n" + message) == 4
    assert [each[0] for each in listener.seen] == ["1", "4"]


@pytest.mark.parametrize("form", BOTH)
@pytest.mark.parametrize("piece", [1, 5, 1000])
def test_what_a_callback_raises_leaves_feed(form, piece):
    def on_event(event):
        raise event if isinstance(event, ProtocolError) else LookupError(event)

    def on_malformed(event):
        raise OSError(event)

    def feed(stream):
        reader = form.Reader({b"1": subscription(form, "a", [].append)}, on_event, on_malformed)
        for at in range(0, len(stream), piece):
            reader.feed(stream[at : at + piece])

    with pytest.raises(LookupError, match="PING"):
        feed(b"PING\r\n")
    with pytest.raises(OSError, match="xff"):
        feed(b"MSG \xff 1 0\r\n\r\n")
    with pytest.raises(ProtocolError, match="unknown operation"):
        feed(b"nonsense\r\n")
    with pytest.raises(ProtocolError, match="longer than its size"):
        feed(b"MSG a 1 0\r\nxxxx\r\n")


@pytest.mark.parametrize("form", BOTH)
def test_what_ends_the_program_leaves_feed(form):
    def deliver(message):
        raise KeyboardInterrupt

    whole = form.Reader({b"1": subscription(form, "a", deliver)}, None, None)
    with pytest.raises(KeyboardInterrupt):
        whole.feed(b"MSG a 1 0\r\n\r\n")
    in_pieces = form.Reader({b"1": subscription(form, "a", deliver)}, None, None)
    in_pieces.feed(b"MSG a 1 0\r\n")
    with pytest.raises(KeyboardInterrupt):
        in_pieces.feed(b"\r\n")


@pytest.mark.parametrize("form", BOTH)
@pytest.mark.parametrize("kind", [None, 5, lambda *_: None, "Message", int, object, type(iter([]))])
def test_a_message_type_that_is_none_is_an_error_and_no_crash(form, kind):
    reader = form.Reader({b"1": (each := subscription(form, "a", [].append))}, None, None)
    each._message_type = kind
    if form is COMPILED or not callable(kind):
        with pytest.raises(TypeError):
            reader.feed(b"MSG a 1 0\r\n\r\n")


@pytest.mark.parametrize("form", BOTH)
def test_messages_are_no_longer_held_once_they_are_delivered(form):
    class Message(message_type(form)):
        __slots__ = ("__weakref__",)

    held = []
    listening = subscription(form, "a", lambda message: held.append(weakref.ref(message)), Message)
    reader = form.Reader({b"1": listening}, None, None)
    reader.feed(b"MSG a 1 1\r\nx\r\nMSG a 1 1\r")
    reader.feed(b"\ny\r\nHMSG a 1 12 13\r\nNATS/1.0\r\n\r\nz\r\n")
    gc.collect()
    assert [each() for each in held] == [None] * 3
