"""A message on its way out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natsery import MaxPayloadError
from natsery._message import Message
from natsery._protocol._commands import check_line, publish
from natsery._protocol._messages import read_message
from natsery._protocol._parser import Parser


def test_a_message_without_headers():
    assert publish("a", b"", "", None, 0) == b"PUB a 0\r\n\r\n"
    assert publish("a.b", b"x\r\ny", "r", None, 4) == b"PUB a.b r 4\r\nx\r\ny\r\n"
    assert publish("é", b"1", "ü", None, 1) == "PUB é ü 1\r\n1\r\n".encode()


def test_a_message_with_headers():
    block = b"NATS/1.0\r\nA: 1\r\n\r\n"
    assert publish("a", b"xy", "", {"A": "1"}, 20) == b"HPUB a 18 20\r\n" + block + b"xy\r\n"
    assert publish("a", b"", "r", {"A": "1"}, 18) == b"HPUB a r 18 18\r\n" + block + b"\r\n"


@pytest.mark.parametrize(
    "subject", ["", " ", "a b", "a\tb", "a\rb", "a\nb", "a\x0bb", "a\x0cb", " a", "a ", "a\r\nPUB b 0", "a\u2003b"]
)
def test_white_space_never_travels_in_a_subject(subject):
    with pytest.raises(ValueError, match="subject"):
        publish(subject, b"", "", None, 100)
    if subject:
        with pytest.raises(ValueError, match="reply"):
            publish("a", b"", subject, None, 100)


def test_a_subject_must_be_writable():
    for subject, reply in (("\ud800", ""), ("a", "\ud800")):
        with pytest.raises(ValueError, match="UTF-8"):
            publish(subject, b"", reply, None, 100)


def test_subjects_have_a_common_limit_in_bytes():
    assert publish("é" * 300, b"", "é" * 300, None, 0, 1200)
    with pytest.raises(ValueError, match="1199 bytes"):
        publish("é" * 300, b"", "é" * 300, None, 0, 1199)
    with pytest.raises(ValueError, match="10 bytes"):
        check_line("abcdef", "queue", 10)
    check_line("abcde", "queue", 10)


def test_a_message_has_a_limit_headers_counted():
    publish("a", bytes(10), "", None, 10)
    with pytest.raises(MaxPayloadError, match="11 bytes"):
        publish("a", bytes(11), "", None, 10)
    with pytest.raises(MaxPayloadError, match="28 bytes"):
        publish("a", bytes(10), "", {"A": "1"}, 27)


def test_the_payload_must_be_bytes():
    assert publish("a", bytearray(b"1"), "", None, 1) == publish("a", memoryview(b"1"), "", None, 1)
    with pytest.raises(TypeError, match=r"text\.encode"):
        publish("a", "text", "", None, 100)
    with pytest.raises(TypeError, match="NoneType"):
        publish("a", None, "", None, 100)


@given(st.binary(), st.sampled_from(["", "r"]), st.booleans())
def test_what_is_published_is_what_a_reader_of_the_protocol_takes(data, reply, has_headers):
    frame = publish("a", data, reply, {"A": "b"} if has_headers else None, 1_000_000)
    # A server's MSG is a PUB with the sid after the subject.
    (event,) = Parser().feed(frame.replace(b"PUB a ", b"MSG a 1 ", 1))
    message = read_message(event, Message)
    assert (message.subject, message.reply, message.data) == ("a", reply, data)
    assert message.headers.multi_items() == ([("A", "b")] if has_headers else [])
