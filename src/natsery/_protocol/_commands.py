"""The commands of a client as bytes, validated so that they need no further checks."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from .._errors import MaxPayloadError, PublishError, shorten
from .._headers import Headers, HeadersInput
from .._subjects import LINE_OVERHEAD, LONG_SUBJECT, MAX_CONTROL_LINE

PING: Final = b"PING\r\n"
PONG: Final = b"PONG\r\n"

SMALL: Final = 4096
"""Payloads of fewer bytes have their size field in `SIZE_FIELDS`."""

SIZE_FIELDS: Final = tuple(b" %d\r\n" % size for size in range(SMALL))
"""The ends of control lines for small payloads: a look-up is faster than formatting the number."""

_BLANK: Final = re.compile(r"\s")


def connect(options: Mapping[str, Any]) -> bytes:
    """Return a CONNECT command; the options must be JSON-serializable."""
    return b"CONNECT %b\r\n" % json.dumps(options, separators=(",", ":")).encode()


def is_publish(frame: bytes) -> bool:
    """Return whether a frame is a message."""
    return frame.startswith((b"PUB ", b"HPUB "))


def split_frames(data: bytes) -> list[bytes]:
    """Return the commands that have been joined to one run of bytes."""
    frames: list[bytes] = []
    start = 0
    while start < len(data):
        line_end = data.index(b"\r\n", start)
        end = line_end + 2
        if data.startswith((b"PUB ", b"HPUB "), start):
            end += int(data[start:line_end].rpartition(b" ")[2]) + 2
        frames.append(data[start:end])
        start = end
    return frames


def subscribe(subject: str, queue_group: str, sid: bytes) -> bytes:
    """Return a SUB command, without a queue group if that is ``""``."""
    if queue_group:
        return b"SUB %b %b %b\r\n" % (subject.encode(), queue_group.encode(), sid)
    return b"SUB %b %b\r\n" % (subject.encode(), sid)


def unsubscribe(sid: bytes) -> bytes:
    """Return an UNSUB command that takes effect at once."""
    return b"UNSUB %b\r\n" % sid


def publish(
    subject: str,
    data: bytes,
    reply: str,
    headers: HeadersInput | None,
    max_payload: int,
    max_subjects: int = MAX_CONTROL_LINE - LINE_OVERHEAD,
    *,
    takes_headers: bool = True,
) -> bytes:
    """Return a complete PUB or HPUB command.

    Args:
        subject: the subject to publish to.
        data: the payload.
        reply: the reply subject, ``""`` if there is none.
        headers: the headers.
        max_payload: the maximum total bytes of headers and payload.
        max_subjects: the maximum total bytes of subject and reply subject.
        takes_headers: whether the server does, which ends the connection otherwise.

    Raises:
        ValueError: the subject is empty; it or the reply subject contains white space, cannot be encoded as UTF-8 or is
            too long; the headers are invalid.
        TypeError: the payload is not bytes, or the headers are of a wrong type.
        MaxPayloadError: headers and payload together exceed ``max_payload``.
        PublishError: there are headers, and the server does not take any.
    """
    if type(data) is not bytes:
        data = as_bytes(data)
    # Short, printable and without blanks is the common case, which needs no further check.
    if reply or not subject.isprintable() or " " in subject or not subject or len(subject) > LONG_SUBJECT:
        check_line(subject, reply, max_subjects)
        target = f"{subject} {reply}".encode() if reply else subject.encode()
    else:
        target = subject.encode()
    size = len(data)
    if headers is None:
        if size > max_payload:
            raise MaxPayloadError(size, max_payload)
        return b"PUB %b %d\r\n%b\r\n" % (target, size, data)
    checked = Headers(headers)
    if not checked._pairs:
        return publish(subject, data, reply, None, max_payload, max_subjects)
    if not takes_headers:
        raise PublishError(
            "headers: the server takes none ('headers' in its INFO is false), and nothing was sent; "
            "send the message without headers, or remove 'no_header_support' from the server's configuration"
        )
    block = checked.encode()
    size += len(block)
    if size > max_payload:
        raise MaxPayloadError(size, max_payload)
    return b"HPUB %b %d %d\r\n%b%b\r\n" % (target, len(block), size, block, data)


def publish_reply(reply: str, data: bytes) -> bytes:
    """Return a PUB command to a reply subject that was received as a single field, and so needs no check."""
    size = len(data)
    size_field = SIZE_FIELDS[size] if size < SMALL else b" %d\r\n" % size
    return b"".join((b"PUB ", reply.encode(), size_field, data, b"\r\n"))


def check_line(subject: str, other: str, max_subjects: int) -> None:
    """Check a subject, and the reply subject or queue group that follows it in a control line.

    The server would take white space for a separator, and what follows it for another field or command.

    Raises:
        ValueError: the subject is empty; one contains white space or cannot be encoded as UTF-8; both are too long.
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
        reason = f"must, with the reply subject or queue group, not be longer than {max_subjects} bytes"
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
    hint = ""
    if isinstance(data, str):
        hint = "; write text.encode()"
    elif isinstance(data, (dict, list)):
        hint = "; write json.dumps(data).encode()"
    raise TypeError(f"data: must be bytes, not {type(data).__name__}{hint}")
