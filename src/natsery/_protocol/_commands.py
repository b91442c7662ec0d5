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
