"""Headers and messages as values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from natsery._headers import NO_HEADERS, Headers
from natsery._message import Message


def test_a_name_keeps_all_its_values_in_order():
    headers = Headers([("A", "1"), ("B", "2"), ("a", "3")])
    assert headers["A"] == "1"
    assert headers.get_all("A") == ["1", "3"]
    assert headers.multi_items() == [("A", "1"), ("B", "2"), ("a", "3")]


def test_look_up_ignores_case_and_names_keep_theirs():
    headers = Headers({"Content-Type": "text"})
    assert headers["content-TYPE"] == "text"
    assert "CONTENT-TYPE" in headers
    assert headers.get_all("content-type") == ["text"]
    assert list(headers) == ["Content-Type"]


def test_names_that_differ_in_case_count_once():
    headers = Headers([("A", "1"), ("a", "2")])
    assert len(headers) == 1
    assert list(headers) == ["A"]


def test_a_mapping_may_hold_one_or_several_values():
    assert Headers({"A": "1", "B": ["2", "3"], "C": []}).multi_items() == [("A", "1"), ("B", "2"), ("B", "3")]


def test_missing_names_raise_key_error_and_have_no_values():
    with pytest.raises(KeyError):
        NO_HEADERS["A"]
    assert NO_HEADERS.get("A") is None
    assert NO_HEADERS.get_all("A") == []
    assert 5 not in NO_HEADERS


def test_headers_are_copied_from_headers():
    headers = Headers([("A", "1"), ("A", "2")])
    assert Headers(headers) == headers


def test_the_given_mapping_is_not_kept():
    given_headers = {"A": ["1"]}
    headers = Headers(given_headers)
    given_headers["A"].append("2")
    assert headers.get_all("A") == ["1"]


def test_equal_headers_ignore_the_case_of_names_and_hash_alike():
    one, other = Headers({"A": "1"}), Headers({"a": "1"})
    assert one == other
    assert hash(one) == hash(other)
    assert one != Headers({"A": "2"})
    assert one == {"A": "1"}
    assert one != 5


def test_headers_encode_as_they_travel():
    assert Headers([("A", "1"), ("B", "x y")]).encode() == b"NATS/1.0\r\nA: 1\r\nB: x y\r\n\r\n"
    assert NO_HEADERS.encode() == b"NATS/1.0\r\n\r\n"


def test_blanks_around_a_value_are_removed():
    assert Headers({"A": "  x y \t"})["A"] == "x y"


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\n", "é", "\r", "a\0", "😀", "\ud800", None, 5, b"a"])
def test_bad_header_names_are_refused(name):
    with pytest.raises(ValueError if isinstance(name, str) else TypeError, match=r"^header name: must be"):
        Headers([(name, "x")])


@pytest.mark.parametrize("value", ["a\rb", "a\nb", "a\0", "x\n", "é", "\ud800", None, 5])
def test_bad_header_values_are_refused(value):
    with pytest.raises(ValueError if isinstance(value, str) else TypeError, match=r"^header A: must "):
        Headers([("A", value)])


@pytest.mark.parametrize("headers", ["A: 1", b"A: 1", ["AB"], [("A",)], [("A", "1", "2")]])
def test_what_is_no_mapping_and_no_pairs_is_refused(headers):
    with pytest.raises(TypeError, match="pairs"):
        Headers(headers)


@pytest.mark.parametrize("value", ["a\rb", "a\nb", "a\0", "é"])
def test_received_headers_are_checked_before_they_are_sent_on(value):
    """A received value with a line end went out as it was, and made two headers of one."""
    received = Headers.from_wire([("A", value)])
    assert received["A"] == value
    with pytest.raises(ValueError, match=r"^header A: must "):
        Headers(received)


def test_received_headers_that_can_be_sent_are():
    assert Headers(Headers.from_wire([("A", "b"), ("A", "c")])).multi_items() == [("A", "b"), ("A", "c")]


def test_received_headers_are_taken_as_they_are():
    assert Headers.from_wire([("a b", "\ud800")]).multi_items() == [("a b", "\ud800")]


@given(st.text(), st.text())
def test_what_is_accepted_cannot_break_the_header_block(name, value):
    try:
        block = Headers([(name, value)]).encode()
    except ValueError:
        return
    assert block.count(b"\r\n") == 3
    assert block.count(b"\n") == 3
    assert block.count(b"\r") == 3


def test_a_message_has_empty_defaults():
    message = Message("a.b")
    assert (message.data, message.reply, message.status) == (b"", "", 0)
    assert message.headers is NO_HEADERS
    assert repr(message).startswith("Message(subject='a.b'")
