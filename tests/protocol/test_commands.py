"""What a client sends."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from natsery._protocol import _commands
from natsery._protocol._headers import read_headers
from natsery._protocol._parser import Parser


def test_signals():
    assert (_commands.PING, _commands.PONG) == (b"PING\r\n", b"PONG\r\n")


def test_publish():
    assert _commands.publish(b"a", b"", b"") == b"PUB a 0\r\n\r\n"
    assert _commands.publish(b"a.b", b"r", b"x\r\ny") == b"PUB a.b r 4\r\nx\r\ny\r\n"
    assert _commands.publish("é".encode(), b"", "é".encode()) == "PUB é 2\r\né\r\n".encode()


def test_publish_with_headers():
    block = b"NATS/1.0\r\nA: 1\r\n\r\n"
    assert _commands.publish_with_headers(b"a", b"", block, b"xy") == b"HPUB a 18 20\r\nNATS/1.0\r\nA: 1\r\n\r\nxy\r\n"
    assert _commands.publish_with_headers(b"a", b"r", block, b"") == b"HPUB a r 18 18\r\nNATS/1.0\r\nA: 1\r\n\r\n\r\n"


def test_subscribe_and_unsubscribe():
    assert _commands.subscribe("a.>", "", b"1") == b"SUB a.> 1\r\n"
    assert _commands.subscribe("é.*", "q", b"12") == "SUB é.* q 12\r\n".encode()
    assert _commands.unsubscribe(b"12") == b"UNSUB 12\r\n"


@pytest.mark.parametrize(
    ("frame", "answer"),
    [
        (b"PUB a 0\r\n\r\n", True),
        (b"HPUB a 0 0\r\n\r\n", True),
        (b"SUB PUB 1\r\n", False),
        (b"PING\r\n", False),
        (b"PUBX", False),
        (b"", False),
    ],
)
def test_messages_are_told_from_other_frames(frame, answer):
    assert _commands.is_publish(frame) is answer


def test_connect_is_one_line_of_json():
    assert _commands.connect({"verbose": False, "name": "a", "protocol": 1}) == (
        b'CONNECT {"verbose":false,"name":"a","protocol":1}\r\n'
    )


@settings(derandomize=True, database=None, deadline=None)
@given(st.text(st.characters(codec=None)))
def test_no_text_breaks_connect(text):
    """A password with a lone surrogate raised UnicodeEncodeError out of the handshake."""
    frame = _commands.connect({"pass": text})
    assert frame.endswith(b"\r\n")
    assert frame.count(b"\n") == frame.count(b"\r") == 1
    assert json.loads(frame.removeprefix(b"CONNECT ")) == {"pass": text}


@settings(derandomize=True, database=None, deadline=None)
@given(st.binary(), st.sampled_from([b"", b"r"]), st.booleans())
def test_what_is_published_is_what_a_reader_of_the_protocol_takes(data, reply, has_headers):
    block = b"NATS/1.0\r\nA: b\r\n\r\n" if has_headers else b""
    frame = _commands.publish_with_headers(b"a", reply, block, data) if block else _commands.publish(b"a", reply, data)
    # A server's MSG is a PUB with the sid after the subject.
    received = frame.replace(b"HPUB a ", b"HMSG a 1 ", 1) if block else frame.replace(b"PUB a ", b"MSG a 1 ", 1)
    assert Parser().feed(received) == [(b"1", b"a", reply, block, data)]
    if block:
        assert read_headers(block).headers["a"] == "b"
