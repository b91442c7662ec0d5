"""Tells systemd how a service is: the datagrams of sd_notify(3), without its library."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from typing import final

import anyio

from .._format import one_line

SOCKET = "NOTIFY_SOCKET"
WATCHDOG_TIME = "WATCHDOG_USEC"
WATCHDOG_PROCESS = "WATCHDOG_PID"


@final
class Notifier:
    """Sends the state of this process to systemd, or whatever has set ``NOTIFY_SOCKET``; to nobody if nothing has.

    Args:
        address: the path of a socket, with ``@`` in front for an abstract one; ``""`` for none.
        watchdog_seconds: how often systemd wants to hear of it at least, 0 for never.
    """

    def __init__(self, address: str = "", watchdog_seconds: float = 0.0) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._watchdog_seconds = watchdog_seconds

    def ready(self, status: str) -> None:
        """Say that it serves, the first time or again."""
        self._send("READY=1", f"STATUS={one_line(status)}")

    def reloading(self, status: str) -> None:
        """Say that it replaces what serves; ``ready`` follows."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", f"STATUS={one_line(status)}")

    def stopping(self, status: str) -> None:
        """Say that it drains."""
        self._send("STOPPING=1", f"STATUS={one_line(status)}")

    async def beat(self) -> None:
        """Say that the event loop runs, twice as often as systemd wants to hear of it; until cancelled."""
        while self._address and self._watchdog_seconds:
            self._send("WATCHDOG=1")
            await anyio.sleep(self._watchdog_seconds / 2)

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto("\n".join(lines).encode(), self._address)


def notifier() -> Notifier:
    """Return what the environment asks for, and take it out of there: processes that are started have nothing to notify."""
    address = os.environ.pop(SOCKET, "")
    time_text, process = os.environ.pop(WATCHDOG_TIME, ""), os.environ.pop(WATCHDOG_PROCESS, "")
    is_for_this = process in ("", str(os.getpid()))
    is_number = time_text.isascii() and time_text.isdigit()
    return Notifier(address, int(time_text) / 1e6 if is_for_this and is_number else 0.0)
