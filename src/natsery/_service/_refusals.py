"""Error replies that synchronous code decides on and a task of its own sends: overload and shutdown."""

from __future__ import annotations

from typing import final

from .._adr32 import error_headers
from .._errors import NatseryError
from .._fast_path import FastPath
from ._error_reporting import ErrorReporter
from ._work_queue import WorkQueue

MAX_WAITING_REFUSALS = 65_536
"""Refusals that may wait for the connection to take them; beyond that requesters see a time-out."""


@final
class Refusals:
    """Answers requests that no handler will see."""

    def __init__(self, fast_path: FastPath, reports: ErrorReporter) -> None:
        self._fast_path = fast_path
        self._reports = reports
        self._work_queue: WorkQueue[tuple[str, tuple[int, str]]] = WorkQueue(self._send, MAX_WAITING_REFUSALS)
        self.run = self._work_queue.run
        self.wait_sent = self._work_queue.wait_empty

    def refuse(self, reply: str, answer: tuple[int, str]) -> None:
        """Answer a request, soon, with an error code and description."""
        if reply and not self._work_queue.put((reply, answer)):
            self._reports.report(NatseryError(f"too many refusals are waiting; {reply!r} gets none"))

    async def _send(self, item: tuple[str, tuple[int, str]]) -> None:
        reply, (code, description) = item
        try:
            await self._fast_path._send(reply, b"", headers=error_headers(code, description))
        except NatseryError as error:
            self._reports.report(error)
