"""Lays JSON out as it came, and escapes what a terminal could misread or not show."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

MAX_DEPTH: Final = 100
"""How deeply values may be nested; readers of JSON have limits of their own. Deeper ones are null."""

MAX_DIGITS: Final = 1_000
"""How many digits a whole number may have, for the same reason; Python's own reader, for one, refuses longer ones."""

MAX_INDENT: Final = 40

_TOKEN: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{},:]|[^\s"\[\]{},:]+', re.DOTALL)


def escape_json(text: str, encoding: str) -> str:
    """Escape all characters of a JSON text that cannot be printed in an encoding, but for line feeds."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(each if each == "\n" or _is_plain(each, encoding) else _escaped(each) for each in text)


def lay_out_json(text: str, encoding: str, *, indent: bool) -> Iterator[str]:
    """Yield a JSON text, piece by piece, with the white space that Python's ``json`` writes.

    Values stay as they are, character for character. Only what is not JSON, nested too deeply, or a number of too many digits
    becomes null.
    """
    depth, previous = 0, ""
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token in ("]", "}"):
            depth -= 1
            if depth >= MAX_DEPTH:
                continue
            if indent and previous not in ("[", "{"):
                yield _new_line(depth)
        elif indent and previous in ("[", "{", ",") and depth <= MAX_DEPTH:
            yield _new_line(depth)
        if token in ("[", "{"):
            depth += 1
            if depth > MAX_DEPTH:
                if depth == MAX_DEPTH + 1:
                    yield "null"
                    previous = "null"
                continue
        elif depth > MAX_DEPTH:
            continue
        previous = token
        if token == ":":
            yield ": "
        elif token == ",":
            yield "," if indent else ", "
        elif token in ("NaN", "Infinity", "-Infinity") or (len(token) > MAX_DIGITS and _is_whole(token)):
            yield "null"
        else:
            yield escape_json(token, encoding).replace("\n", "\\n")


def _is_whole(token: str) -> bool:
    return token.removeprefix("-").isdecimal()


def _new_line(depth: int) -> str:
    return "\n" + "  " * min(depth, MAX_INDENT)


def _is_plain(character: str, encoding: str) -> bool:
    if not character.isprintable():
        return False
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _escaped(character: str) -> str:
    number = ord(character)
    if number <= 0xFFFF:
        return f"\\u{number:04x}"
    number -= 0x10000
    return f"\\u{0xD800 + (number >> 10):04x}\\u{0xDC00 + (number & 0x3FF):04x}"
