"""The error for a body that does not fit may be shown to anybody."""

from __future__ import annotations

import pytest

from natsery import DecodeError, JSONCodec


def test_it_says_where_and_what():
    error = DecodeError("$.a[2]", "must be an int, got 'x'")
    assert (error.path, error.reason) == ("$.a[2]", "must be an int, got 'x'")
    assert str(error) == "$.a[2]: must be an int, got 'x'"
    assert isinstance(error, ValueError)


@pytest.mark.parametrize("text", ["x" * 1000, "é" * 1000, "\x1b[31m" * 1000, "\ud800", "\u202e", "a\nb"])
def test_it_is_short_and_printable(text):
    error = DecodeError(f"$.{text}", text)
    assert len(str(error)) <= 300
    assert str(error).isascii()
    assert str(error).isprintable()


def test_a_long_path_keeps_both_ends():
    depth = 50
    with pytest.raises(DecodeError) as caught:
        JSONCodec().decoder(dict[str, int] | dict[str, list[list[list[int]]]])(b'{"a":[[["x"]]]}')
    assert caught.value.path == "$"
    path = "$" + ".next" * depth + ".value"
    assert DecodeError(path, "is missing").path == f"{path[:45]}...{path[-42:]}"
