"""Bodies that were made to do harm give a value or a `DecodeError`, soon, and with a short text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from natsery import DecodeError, JSONCodec

from .samples import SAMPLES, Left, Model, Node, Order, Right, Root, Struct, Tree

CODEC = JSONCodec()
TYPES = [type_ for type_, _, _ in SAMPLES]
DECODERS = [CODEC.decoder(type_) for type_ in TYPES]
DEEP = 100_000


def check(decode, data: bytes) -> Any:
    try:
        return decode(data)
    except DecodeError as error:
        text = str(error)
        assert len(text) <= 300
        assert text.isascii()
        assert text.isprintable()
        return error


BODIES = [
    b"",
    b" ",
    b"{",
    b'{"a"',
    b"[1,]",
    b"nul",
    b"\xff",
    b"\xef\xbb\xbf1",
    b'"\xed\xa0\x80"',
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"[1e-999]",
    b"9" * 5000,
    b"-" + b"9" * 4000,
    b'"' + b"9" * 100_000 + b'"',
    b'"1e' + b"9" * 100 + b'"',
    b"[" * DEEP,
    b"[" * DEEP + b"]" * DEEP,
    b'{"next":' * DEEP + b"null" + b"}" * DEEP,
    b'{"a":' * 2000 + b"1" + b"}" * 2000,
    b'"\\ud800"',
    b'{"\\udc00":1}',
    b'["\\ud83d\\ude00","\\ud83d"]',
    b'"\\u0000\\u001b[31m\\u202e"',
    b'{"\\u0000\\n":1}',
    b'{"' + b"k" * 1_000_000 + b'":{}}',
    '{"é\u202e":"é\u2028"}'.encode(),
    b'"' + b"x" * 1_000_000 + b'"',
    b"[" + b"1," * 300_000 + b"1]",
    b"[" + b"{}," * 100_000 + b"{}]",
    b'"P' + b"9" * 5000 + b'D"',
    b'"P999999999999D"',
    b'"-P999999999D"',
    b'"0001-01-01T00:00:00+23:59"',
    b'"2024-02-03T12:00:00+99:99"',
    b'"2024-02-03T12:00:60Z"',
    b'"' + "٣".encode() * 4 + b'-01-01"',
]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: repr(body[:20]))
def test_a_hostile_body_gives_a_value_or_a_decode_error(body):
    for decode in DECODERS:
        check(decode, body)


@settings(max_examples=300)
@given(st.integers(0, len(DECODERS) - 1), st.binary(max_size=60))
def test_any_bytes_give_a_value_or_a_decode_error(index, body):
    check(DECODERS[index], body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["name", "items", "id", "next", "value", "kind", "a"]), inner)
    ),
    max_leaves=10,
)


@settings(max_examples=300)
@given(st.integers(0, len(DECODERS) - 1), JSON)
def test_any_json_gives_a_value_or_a_decode_error(index, value):
    check(DECODERS[index], json.dumps(value).encode(errors="surrogatepass"))


def test_an_empty_body_is_called_empty():
    for body in (b"", b" \n"):
        assert str(check(CODEC.decoder(Any), body)) == "$: is not JSON: it is empty"


def test_half_of_a_surrogate_pair_is_refused_wherever_it_stands():
    for body in (b'"\\ud800"', b'{"a":["\\uDfff"]}', b'{"\\ud800":1}'):
        assert str(check(CODEC.decoder(Any), body)) == "$: is not JSON: its text is not Unicode"
    assert CODEC.decoder(str)(rb'"\\ud800 \ud83d\ude00"') == "\\ud800 😀"


def test_depth_is_told():
    for type_ in (Any, Node, Tree, Left | Right):
        error = check(CODEC.decoder(type_), b'{"next":' * DEEP + b"null" + b"}" * DEEP)
        assert str(error) == "$: is nested too deeply"


class CountingInt(int):
    pass


def test_unions_inside_unions_do_not_double_the_time_at_each_level():
    depth = 60
    good = b'{"next":' * depth + b"null" + b',"kind":"right"}' * depth
    value, count = CODEC.decoder(Left | Right)(good), 0
    while value is not None:
        value, count = value.next, count + 1
    assert count == depth
    bad = b'{"next":' * depth + b"1" + b',"kind":"right"}' * depth
    assert isinstance(check(CODEC.decoder(Left | Right), bad), DecodeError)


def test_numbers_that_were_chosen_for_their_hash_are_refused():
    body = json.dumps([(2**61 - 1) * factor for factor in range(50_000)]).encode()
    assert str(check(CODEC.decoder(set[int]), body)) == "$: has too many items of the same hash"
    assert CODEC.decoder(set[int])(b"[" + b"1," * 1000 + b"1]") == {1}
    assert len(CODEC.decoder(frozenset[int])(json.dumps(list(range(1000))).encode())) == 1000


@pytest.mark.parametrize("type_", [Struct, Model, Root, list[Struct], list[Model], Order])
def test_what_is_no_json_is_told_alike_by_every_library(type_):
    error = check(CODEC.decoder(type_), b"[1")
    assert error.path == "$"
