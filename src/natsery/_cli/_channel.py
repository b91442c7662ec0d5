"""The line between a supervisor and a worker: who hangs up is gone."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, final

import anyio

MAX_BYTES = 65_536
"""What is read at a time, and the longest line that is kept."""


@final
class Channel:
    """One end of a socket that carries a JSON object a line. The other end sees it close when this process ends, however."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._socket = end

    def tell(self, **facts: Any) -> None:
        """Send facts, such as ``ready="on trio"``; if the other side is gone or does not read, they are lost."""
        with suppress(OSError):
            self._socket.send(json.dumps(facts).encode() + b"\n")

    async def listen(self, hear: Callable[[dict[str, Any]], None]) -> None:
        """Call ``hear`` with what the other side tells, and return when it has hung up."""
        unread = b""
        while True:
            await anyio.wait_readable(self._socket)
            try:
                chunk = self._socket.recv(MAX_BYTES)
            except BlockingIOError:
                continue
            except OSError:
                return
            if not chunk:
                return
            *lines, unread = (unread + chunk).split(b"\n")
            for line in lines:
                with suppress(ValueError):
                    facts = json.loads(line)
                    if isinstance(facts, dict):
                        hear(facts)
            unread = unread[:MAX_BYTES]

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


def channel_on_stdin() -> Channel:
    """The line to the supervisor that started this process; what the process starts itself gets an empty stdin."""
    end = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return Channel(end)
