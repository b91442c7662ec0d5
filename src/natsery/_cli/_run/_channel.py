"""The socket between a supervisor and a worker: each sees it close when the other has ended."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, final

import anyio

SEND_BUFFER_BYTES = 262_144
"""What the system keeps of messages that have not been read; macOS has 8 KiB unless told."""

READ_BYTES = 65_536
"""How much is read at a time."""

MAX_LINE_BYTES = 1_048_576
"""How much of an unfinished line is kept: more than can be sent at once."""


@final
class Channel:
    """One end of a socket that carries one JSON object per line, as a context manager that closes it.

    The other end sees it close when this process ends, for whatever reason.
    """

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self._socket = end
        self._unread = b""
        self._is_cut_short = False  # the last message

    def send(self, **message: Any) -> None:
        """Send a message such as ``ready="on trio"``. It is lost if the other end is closed or does not read."""
        line = json.dumps(message).encode() + b"\n"
        if self._is_cut_short:
            line = b"\n" + line  # or it would be joined to what of the last one has been sent
        with suppress(OSError):
            self._is_cut_short = self._socket.send(line) < len(line)

    async def receive(self, handle: Callable[[dict[str, Any]], None]) -> None:
        """Call ``handle`` with each message, and return when the other end is closed."""
        is_open = True
        while is_open:
            await anyio.wait_readable(self._socket)
            is_open = self.receive_available(handle)

    def receive_available(self, handle: Callable[[dict[str, Any]], None]) -> bool:
        """Call ``handle`` with each message that has arrived; return false if the other end is closed."""
        while True:
            try:
                chunk = self._socket.recv(READ_BYTES)
            except BlockingIOError:
                return True
            except OSError:
                return False
            if not chunk:
                return False
            *lines, unread = (self._unread + chunk).split(b"\n")
            self._unread = unread[:MAX_LINE_BYTES]
            for line in lines:
                message = None
                with suppress(ValueError):
                    message = json.loads(line)
                if isinstance(message, dict):
                    handle(message)

    def __enter__(self) -> Channel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close this end. Safe twice."""
        self._socket.close()


def channel_on_stdin() -> Channel:
    """Return the channel to the supervisor, which this process has as its stdin, and put an empty stdin in its place.

    Raises:
        OSError: stdin is not a socket.
    """
    end = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return Channel(end)
