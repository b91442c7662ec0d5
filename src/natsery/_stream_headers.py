"""What services and clients say to each other about streamed replies, beside the replies; docs/streams.md has all of it."""

from __future__ import annotations

import re
from typing import Final

from ._headers import Headers
from ._message import Message

WINDOW_HEADER: Final = "Reply-Window"
"""In a request: how many replies may be on their way at once. In an acknowledgement: 0 for no more of them."""

DEFAULT_WINDOW: Final = 128
"""Replies that may be on their way to a client at once."""

MAX_WINDOW: Final = 65_536
"""The largest window."""

HEARTBEAT_SECONDS: Final = 5.0
"""How long a service sends nothing at most: while it has no reply to send, it says that the stream is open."""

_NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)


def window_in(headers: Headers) -> int | None:
    """Return the window that headers name, ``None`` if they name none that is a whole number."""
    text = headers.get(WINDOW_HEADER, "").strip()
    return min(int(text), MAX_WINDOW) if _NUMBER.fullmatch(text) else None


def window_headers(window: int) -> Headers:
    """Return the headers that name a window."""
    return Headers({WINDOW_HEADER: str(window)})


def number_in(subject: str) -> int | None:
    """Return the number of the reply that a subject acknowledges, ``None`` if it acknowledges none."""
    text = subject.rpartition(".")[2]
    return int(text) if _NUMBER.fullmatch(text) else None


def is_opening(message: Message) -> bool:
    """Whether a message says that the stream is open, and is no reply."""
    return not message.data and WINDOW_HEADER in message.headers
