"""How the parts of a streamed reply are numbered, acknowledged and ended on the wire; `docs/streams.md` has all of it."""

from __future__ import annotations

import re
from typing import Final

from ._checks import WrongType
from ._message import Headers, Message

WINDOW_HEADER: Final = "Reply-Window"
"""In a request: how many parts may be under way. In an empty reply: a status, which says that the service keeps to that."""

MAX_WINDOW: Final = 65_536
"""The largest window."""

CANCEL: Final = b"+TERM"
"""What a requester that wants no more parts sends in place of an acknowledgement; the word of JetStream's consumers."""

ACKNOWLEDGEMENTS: Final = (b"", b"+ACK")
"""What acknowledges all parts up to one."""

HEARTBEAT_SECONDS: Final = 5.0
"""How long nothing may come before the service sends its status again."""

_WINDOW = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII)


def window_rule(value: object) -> str | None:
    """How many parts may be under way."""
    wrong = f"must be an int from 1 to {MAX_WINDOW}"
    if not isinstance(value, int) or isinstance(value, bool):
        return WrongType(wrong)
    return None if 1 <= value <= MAX_WINDOW else wrong


def read_window(headers: Headers) -> int:
    """Return the window that a request asks for; 0 if it asks for none, or for what is no window."""
    text = headers.get(WINDOW_HEADER, "")
    window = int(text) if _WINDOW.fullmatch(text) else 0
    return window if window <= MAX_WINDOW else 0


def read_number(token: str) -> int | None:
    """Return the number of a part, ``None`` if the last token of its reply subject is none."""
    return int(token) if _NUMBER.fullmatch(token) else None


def is_end(message: Message) -> bool:
    """Whether a reply is the one after the last part: empty, and without headers."""
    return not message.data and not message.status and not message.headers
