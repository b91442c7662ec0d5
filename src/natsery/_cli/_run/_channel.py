"""The line between a supervisor and a worker: who hangs up is gone."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, final

import anyio

MAX_BYTES = 65_536
"""What is read at a time, and the longest line that is kept."""


@final
class Channel:
    """One end of a socket that carries a JSON object a line, until its block ends.

    The other end sees it close when this process ends, however that comes.
    """

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._socket = end
        self._unread = b""

    def tell(self, **facts: Any) -> None:
        """Send facts, such as ``ready="on trio"``; if the other side is gone or does not read, they are lost."""
        with suppress(OSError):
            self._socket.send(json.dumps(facts).encode() + b"\n")

    async def listen(self, hear: Callable[[dict[str, Any]], None]) -> None:
        """Call ``hear`` with what the other side tells, and return when it has hung up."""
        is_open = True
        while is_open:
            await anyio.wait_readable(self._socket)
            is_open = self.hear_rest(hear)

    def hear_rest(self, hear: Callable[[dict[str, Any]], None]) -> bool:
        """Call ``hear`` with what the other side has told already; false if it has hung up since."""
        while True:
            try:
                chunk = self._socket.recv(MAX_BYTES)
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not chunk:
                return False
            *lines, unread = (self._unread + chunk).split(b"\n")
            self._unread = unread[:MAX_BYTES]
            for line in lines:
                facts = None
                with suppress(ValueError):
                    facts = json.loads(line)
                if isinstance(facts, dict):
                    hear(facts)

    def __enter__(self) -> Channel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up. Safe twice."""
        self._socket.close()


def channel_on_stdin() -> Channel:
    """The line to the supervisor that started this process; what the process starts itself gets an empty stdin.

    Raises:
        OSError: there is none.
    """
    end = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return Channel(end)
