"""The last tokens of reply subjects, which a peer that has seen some of them cannot guess."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import final

_DIGITS = 16
"""Hexadecimal digits of a token: 64 bits, of which a guess must hit one while a request waits for its reply."""

_AT_ONCE = 256
"""Tokens for which the operating system is asked once; asking for each would take longer than all the rest of a request."""


@final
class ReplyTokens(Iterator[str]):
    """An endless iterator over random tokens."""

    __slots__ = ("_digits", "_next")

    def __init__(self) -> None:
        self._digits = ""
        self._next = 0

    def __next__(self) -> str:
        begin = self._next
        if begin == len(self._digits):
            self._digits = secrets.token_hex(_AT_ONCE * _DIGITS // 2)
            begin = 0
        self._next = end = begin + _DIGITS
        return self._digits[begin:end]
