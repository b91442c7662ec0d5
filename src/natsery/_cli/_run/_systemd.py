"""Tells systemd, or whoever else has set NOTIFY_SOCKET, what this process is doing: the protocol of sd_notify."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import final

import anyio

from .._format import one_line
from .._output import print_status

SOCKET = "NOTIFY_SOCKET"
WATCHDOG_MICROSECONDS = "WATCHDOG_USEC"
WATCHDOG_PROCESS = "WATCHDOG_PID"
VARIABLES = frozenset((SOCKET, WATCHDOG_MICROSECONDS, WATCHDOG_PROCESS))
"""The environment variables that are for this process alone, and not for its workers."""

SEND_SECONDS = 1.0
"""How long a message may wait for room in systemd's socket."""

STATUS_SECONDS = 1.0
"""How often the status is looked at."""


@final
class Systemd:
    """The socket of systemd; without one, nothing is sent and nothing is looked at.

    Args:
        environment: the environment variables, as systemd sets them.
        status: returns what the process is doing, in words.
    """

    def __init__(self, environment: Mapping[str, str], status: Callable[[], str]) -> None:
        self._address = environment.get(SOCKET, "")
        self._status = status
        self._last_status = ""
        self._has_failed = False
        self._watchdog_seconds = _watchdog_seconds(environment)
        if self._address and self._address[0] not in "/@":
            print_status(f"systemd is not told anything: {SOCKET} must begin with / or @; got {self._address!r}")
            self._address = ""

    async def run(self) -> None:
        """Send the status when it has changed, and signs of life if systemd wants them, until cancelled."""
        if not self._address:
            return
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._send_every, STATUS_SECONDS, name="natsery run systemd status")
            if self._watchdog_seconds is not None:
                interval = self._watchdog_seconds / 2
                tasks.start_soon(self._send_every, interval, "WATCHDOG=1", name="natsery run systemd watchdog")

    def ready(self) -> None:
        """Say that it serves, for the first time or after ``reloading``."""
        self._send("READY=1")

    def reloading(self) -> None:
        """Say that its workers are being exchanged, until ``ready``."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Say that it drains and ends."""
        self._send("STOPPING=1")

    async def _send_every(self, seconds: float, *lines: str) -> None:
        while True:
            self._send(*lines)
            await anyio.sleep(seconds)

    def _send(self, *lines: str) -> None:
        """Send lines, and the status if it has changed."""
        if not self._address:
            return
        status = f"STATUS={one_line(self._status())}"
        if status != self._last_status:
            lines = (*lines, status)
        if not lines:
            return
        address = f"\0{self._address[1:]}" if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                # It blocks for a moment if systemd is busy: without a READY=1, it would take the start for a failure.
                sender.settimeout(SEND_SECONDS)
                sender.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            if not self._has_failed:
                print_status(f"cannot tell systemd anything at {self._address}: {error}")
            self._has_failed = True
        else:
            self._last_status = status
            self._has_failed = False


def without_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for processes that are not to tell systemd anything."""
    return {name: value for name, value in environment.items() if name not in VARIABLES}


def _watchdog_seconds(environment: Mapping[str, str]) -> float | None:
    """Return within how many seconds systemd wants a sign of life, ``None`` if it wants none from this process."""
    if environment.get(WATCHDOG_PROCESS) not in (None, "", str(os.getpid())):
        return None
    with suppress(ValueError):
        microseconds = int(environment.get(WATCHDOG_MICROSECONDS, ""))
        return microseconds / 1_000_000 if microseconds > 0 else None
    return None
