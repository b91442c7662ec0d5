"""Answers to requests that no handler will see, written at once, or by one task when the connection is busy."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, final

from .._errors import NatseryError
from .._fast_path import FastPath
from .._headers import Headers
from .._service_error import error_headers
from .._statistics import Failure
from ._error_reporting import ErrorReporter
from ._work_queue import WorkQueue

MAX_WAITING_REFUSALS: Final = 262_144
"""Refusals that may wait for the connection to take them; of those beyond, the number is reported."""

MAX_WAITING_BYTES: Final = 32 * 1024 * 1024
"""Bytes that their reply subjects may have together."""

REFUSALS_BETWEEN_YIELDS: Final = 64


@final
class Refusals:
    """Answers to requests that no handler will see, because of overload or shutdown.

    They are written at once, from synchronous code, as long as the connection takes them; the others wait for a task.
    """

    def __init__(self, fast_path: FastPath, errors: ErrorReporter) -> None:
        self._fast_path = fast_path
        self._errors = errors
        self._queue: WorkQueue[tuple[str, Headers]] = WorkQueue(
            self._send, MAX_WAITING_REFUSALS, max_bytes=MAX_WAITING_BYTES, turn=REFUSALS_BETWEEN_YIELDS
        )
        self._unsent = 0

    async def run(self) -> None:
        """Send what waits until cancelled."""
        await self._queue.run()

    async def wait_sent(self) -> None:
        """Wait until every answer so far has been sent. Not a checkpoint if there is none."""
        await self._queue.wait_empty()

    def refuse(self, reply: str, failure: Failure) -> None:
        """Have a request answered with an error. Called from synchronous code."""
        if not reply:
            return
        headers = _headers_of(failure)
        if not self._refuse_nowait(reply, headers) and not self._queue.put((reply, headers), len(reply)):
            self._unsent += 1

    def _refuse_nowait(self, reply: str, headers: Headers) -> bool:
        try:
            return not self._queue.is_waiting and self._fast_path._refuse_nowait(reply, headers)
        except Exception:  # whatever a connection raises: `_send` tries again
            return False

    def report_unsent(self) -> None:
        """Report how many could not be sent, those that still wait included. Called at the end."""
        count = self._unsent + len(self._queue.clear())
        if count:
            self._errors.report(
                NatseryError(f"{count} refused requests got no answer, because the connection did not take it")
            )

    async def _send(self, item: tuple[str, Headers]) -> None:
        reply, headers = item
        try:
            await self._fast_path._send(reply, headers=headers)
        except Exception:  # whatever a connection raises: the others are sent all the same
            self._unsent += 1


@lru_cache(maxsize=16)  # there are fewer, and a flood is refused for one of them
def _headers_of(failure: Failure) -> Headers:
    return error_headers(failure.code, failure.description)
