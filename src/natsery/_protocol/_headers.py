"""Parsing the header block of a message."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from .._errors import MalformedMessageError
from .._headers import NO_HEADERS, Headers

MAX_HEADERS: Final = 4_096
"""The most headers of one message; one that has more is malformed. They take much more memory read than as they travel."""

# Lines of a name, a colon and a value. A name neither begins nor ends with white space, as `str.strip` knows it. Only both
# characters together end a line. Nothing is tried twice, so that the time is in proportion to the size.
_LINES = r"(?:(?!{space})[^:\r\n][^:\r]*+(?:\r(?!\n)[^:\r]*+)*+(?<!{space}):[^\r]*+(?:\r(?!\n)[^\r]*+)*+\r\n)*+"
_FIELDS = re.compile(_LINES.format(space=r"\s"))
_ASCII_FIELDS = re.compile(_LINES.format(space=r"[\s\x1c-\x1f]").encode())


_MIN_TOO_MANY: Final = MAX_HEADERS * len(b"A:\r\n")
"""Bytes that a block with more headers than that must have."""

_PLAIN: Final = b"NATS/1.0\r\n"


class HeaderBlock(NamedTuple):
    """Headers, and the inline status in their first line (0 if there is none) with its description."""

    headers: Headers
    status: int
    description: str


def read_headers(block: bytes) -> HeaderBlock:
    """Parse a header block: a version line, a line for each field, and an empty line.

    The fields are only checked; `Headers` reads them when they are first looked at.

    Raises:
        MalformedMessageError: it is truncated, has an unknown version, a field without a name or more than 4,096 fields, or
            is not UTF-8.

    Source: ADR-4, NATS message headers.
    """
    if not block.endswith(b"\r\n\r\n"):
        raise MalformedMessageError("its header block does not end in an empty line")
    if len(block) > _MIN_TOO_MANY and block.count(b"\r\n") > MAX_HEADERS + 2:
        raise MalformedMessageError(f"it has more than {MAX_HEADERS} headers")
    end = block.index(b"\r\n") + 2
    is_ascii = block.isascii()
    try:
        status, description = (0, "") if block.startswith(_PLAIN) else _read_status(block[: end - 2].decode())
        if end == len(block) - 2:
            return HeaderBlock(NO_HEADERS, status, description)
        # What is ASCII, as nearly all is, is checked as it came.
        match = (
            _ASCII_FIELDS.fullmatch(block, end, len(block) - 2)
            if is_ascii
            else _FIELDS.fullmatch(block[end:-2].decode())
        )
    except UnicodeDecodeError:
        raise MalformedMessageError("its headers are not UTF-8") from None
    if match is None:
        raise MalformedMessageError("a header line has no name or no colon")
    return HeaderBlock(Headers.from_block(block), status, description)


def _read_status(first: str) -> tuple[int, str]:
    """Return the status and its description in the first line of a header block."""
    version, _, status = first.partition(" ")
    if version != "NATS/1.0":
        raise MalformedMessageError("its header block does not begin with NATS/1.0")
    code, _, description = status.strip().partition(" ")
    if code and not (code.isascii() and code.isdigit() and len(code) == 3):
        raise MalformedMessageError("its status is not a number of three digits")
    return int(code or 0), description.strip()
