"""What a client sends."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natsery._protocol import _commands


def test_signals():
    assert (_commands.PING, _commands.PONG) == (b"PING\r\n", b"PONG\r\n")


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


@given(st.text(st.characters(codec=None)))
def test_no_text_breaks_connect(text):
    """A password with a lone surrogate raised UnicodeEncodeError out of the handshake."""
    frame = _commands.connect({"pass": text})
    assert frame.endswith(b"\r\n")
    assert frame.count(b"\n") == frame.count(b"\r") == 1
    assert json.loads(frame.removeprefix(b"CONNECT ")) == {"pass": text}
