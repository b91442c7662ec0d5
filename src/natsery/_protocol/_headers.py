"""Parsing the header block of a message."""

from __future__ import annotations

from typing import NamedTuple

from .._errors import MalformedMessageError
from .._message import Headers


class HeaderBlock(NamedTuple):
    """Headers, and the inline status in their first line (0 if there is none) with its description."""

    headers: Headers
    status: int
    description: str


def read_headers(block: bytes) -> HeaderBlock:
    """Parse a header block: a version line, a line for each field, and an empty line.

    Raises:
        MalformedMessageError: it is truncated, has an unknown version or a field without a name, or is not UTF-8.

    Source: ADR-4, NATS message headers.
    """
    if not block.endswith(b"\r\n\r\n"):
        raise MalformedMessageError("its header block does not end in an empty line")
    try:
        first, *lines = block[:-4].decode().split("\r\n")
    except UnicodeDecodeError:
        raise MalformedMessageError("its headers are not UTF-8") from None
    version, _, status = first.partition(" ")
    if version != "NATS/1.0":
        raise MalformedMessageError("its header block does not begin with NATS/1.0")
    code, _, description = status.strip().partition(" ")
    if code and not (code.isascii() and code.isdigit() and len(code) == 3):
        raise MalformedMessageError("its status is not a number of three digits")
    pairs: list[tuple[str, str]] = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise MalformedMessageError("a header line has no name or no colon")
        pairs.append((name, value.strip(" \t")))
    return HeaderBlock(Headers.from_wire(pairs), int(code or 0), description.strip())
