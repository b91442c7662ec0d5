"""What a client sends, as bytes: checked here, so that no later step has to look at it again."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final

from .._errors import MaxPayloadError, shorten
from .._message import Headers, HeadersInput

PING: Final = b"PING\r\n"
PONG: Final = b"PONG\r\n"

SMALL: Final = 4096
"""Bytes from which on a payload is not small any more."""

SIZE_FIELDS: Final = tuple(b" %d\r\n" % size for size in range(SMALL))
"""How the control lines of small payloads end: a look-up is faster than writing the digits."""

_BLANK: Final = re.compile(r"\s")

_LONG_SUBJECT: Final = 500
"""Characters of a subject from which on its length in bytes is looked at."""


def connect(options: Mapping[str, Any]) -> bytes:
    """CONNECT, from what JSON can hold."""
    return b"CONNECT %b\r\n" % json.dumps(options, separators=(",", ":")).encode()


def is_publish(frame: bytes) -> bool:
    """Whether a frame carries a message."""
    return frame.startswith((b"PUB ", b"HPUB "))


def subscribe(subject: str, queue_group: str, sid: bytes) -> bytes:
    """SUB, with a queue group if there is one."""
    if queue_group:
        return b"SUB %b %b %b\r\n" % (subject.encode(), queue_group.encode(), sid)
    return b"SUB %b %b\r\n" % (subject.encode(), sid)


def unsubscribe(sid: bytes) -> bytes:
    """UNSUB, at once."""
    return b"UNSUB %b\r\n" % sid


def publish(
    subject: str,
    data: bytes,
    reply: str,
    headers: HeadersInput | None,
    max_payload: int,
    max_subjects: float = math.inf,
) -> bytes:
    """One PUB or HPUB, whole.

    Args:
        subject: where it goes.
        data: the payload.
        reply: where an answer is wanted, ``""`` if none is.
        headers: its headers.
        max_payload: bytes that payload and headers may have together.
        max_subjects: bytes that subject and reply may have together.

    Raises:
        ValueError: the subject is empty; it or the reply has white space, cannot be written as UTF-8 or is too long.
        TypeError, ValueError: the payload or the headers break a rule.
        MaxPayloadError: headers and payload together are over ``max_payload``.
    """
    if type(data) is not bytes:
        data = as_bytes(data)
    # Printable and without blanks is the common case, and needs no closer look.
    if reply or not subject.isprintable() or " " in subject or not subject or len(subject) > _LONG_SUBJECT:
        check_line(subject, reply, max_subjects)
        target = f"{subject} {reply}".encode() if reply else subject.encode()
    else:
        target = subject.encode()
    size = len(data)
    if headers is None:
        if size > max_payload:
            raise MaxPayloadError(size, max_payload)
        return b"PUB %b %d\r\n%b\r\n" % (target, size, data)
    block = Headers(headers).encode()
    size += len(block)
    if size > max_payload:
        raise MaxPayloadError(size, max_payload)
    return b"HPUB %b %d %d\r\n%b%b\r\n" % (target, len(block), size, block, data)


def publish_reply(reply: str, data: bytes) -> bytes:
    """One PUB to a reply subject that came off the wire as one field, so that it needs no check to go back as one."""
    size = len(data)
    size_field = SIZE_FIELDS[size] if size < SMALL else b" %d\r\n" % size
    return b"".join((b"PUB ", reply.encode(), size_field, data, b"\r\n"))


def check_line(subject: str, other: str, max_subjects: float) -> None:
    """Refuse a subject, and a reply subject or queue group after it, that would break the line that they travel in.

    White space would be read as a separator, and what follows it as another field or another command.
    """
    try:
        size = len(subject.encode()) + len(other.encode())
    except UnicodeEncodeError:
        raise _wrong("subject", f"{subject} {other}".strip(), "must be writable as UTF-8") from None
    if not subject or _BLANK.search(subject):
        raise _wrong("subject", subject, "must not be empty or contain white space")
    if _BLANK.search(other):
        raise _wrong("reply", other, "must not contain white space")
    if size > max_subjects:
        reason = f"must, with the reply subject or queue group, not be longer than {max_subjects:g} bytes"
        raise _wrong("subject", subject, reason)


def _wrong(name: str, value: str, reason: str) -> ValueError:
    return ValueError(f"{name}: {reason}; got {shorten(value)}")


def as_bytes(data: object) -> bytes:
    """Return a payload as bytes.

    Raises:
        TypeError: it is of another type; the error says what to write instead.
    """
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    hint = "; write text.encode()" if isinstance(data, str) else ""
    raise TypeError(f"data: must be bytes, not {type(data).__name__}{hint}")
