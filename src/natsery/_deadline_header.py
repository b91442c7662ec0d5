"""The header that says how much time a caller gives a request; docs/deadlines.md has all of it."""

from __future__ import annotations

import math
import re
from typing import Final

from ._headers import Headers

TIMEOUT_HEADER: Final = "Request-Timeout-Ms"
"""In a request: the milliseconds that its caller still waits when it is sent, as digits."""

_LOWER_NAME: Final = TIMEOUT_HEADER.lower().encode()

_LONGEST: Final = 9_999_999_999

_NUMBER = re.compile(r"[0-9]{1,10}", re.ASCII)


def timeout_text(seconds: float) -> str:
    """Return the header's value for so many seconds, at least one millisecond."""
    return str(min(max(1, math.ceil(seconds * 1000)), _LONGEST))


def may_say_time(headers: Headers) -> bool:
    """Whether headers may hold it, without taking them apart."""
    return headers._may_have(_LOWER_NAME)


def timeout_in(headers: Headers) -> float:
    """Return the seconds that headers name, ``math.inf`` if they name none that are digits."""
    if not may_say_time(headers):
        return math.inf
    text = headers.get(TIMEOUT_HEADER, "")
    return int(text) / 1000 if _NUMBER.fullmatch(text) else math.inf
