"""What a client sends, as bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

PING: Final = b"PING\r\n"
PONG: Final = b"PONG\r\n"


def connect(options: Mapping[str, Any]) -> bytes:
    """CONNECT, from what JSON can hold."""
    return b"CONNECT %b\r\n" % json.dumps(options, separators=(",", ":")).encode()


def publish(subject: bytes, reply: bytes, data: bytes) -> bytes:
    """PUB with its payload."""
    if reply:
        return b"PUB %b %b %d\r\n%b\r\n" % (subject, reply, len(data), data)
    return b"PUB %b %d\r\n%b\r\n" % (subject, len(data), data)


def publish_with_headers(subject: bytes, reply: bytes, headers: bytes, data: bytes) -> bytes:
    """HPUB with its encoded header block and its payload."""
    sizes = b"%d %d" % (len(headers), len(headers) + len(data))
    if reply:
        return b"HPUB %b %b %b\r\n%b%b\r\n" % (subject, reply, sizes, headers, data)
    return b"HPUB %b %b\r\n%b%b\r\n" % (subject, sizes, headers, data)


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
