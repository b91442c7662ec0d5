"""Where errors go that no caller gets: the log, and the service's error handler; both bounded."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeAlias, final

import anyio
from anyio import get_cancelled_exc_class

from .._errors import (
    EndpointOverloadedError,
    MalformedRequestError,
    NoReplySubjectError,
    PublishDeniedError,
    ReportsDroppedError,
)
from ._invoke import error_of_hook, without_cancellations
from ._work_queue import WorkQueue

if TYPE_CHECKING:
    from .._config import ErrorHandler
    from ._endpoint import Endpoint

logger = logging.getLogger("natsery")

ERROR_HANDLER_SECONDS: Final = 5.0
"""How long an async error handler may take over one error before it is cancelled."""

MAX_WAITING_REPORTS: Final = 1_000
"""Errors that may wait for an async error handler; of those beyond, it is given the number."""

MAX_REPORTS: Final = 20
"""Errors of one kind that are reported in an interval if any peer can cause them; of those beyond, the number is."""

INTERVAL_SECONDS: Final = 1.0

CAUSED_BY_PEERS: Final = (EndpointOverloadedError, MalformedRequestError, NoReplySubjectError, PublishDeniedError)

_Key: TypeAlias = "tuple[type[Exception], Endpoint | None]"


@final
class _Interval:
    """What was reported of one kind, and what was left out."""

    __slots__ = ("begun", "dropped", "reported")

    def __init__(self, now: int) -> None:
        self.begun = now
        self.reported = 0
        self.dropped = 0


@final
class ErrorReporter:
    """Reports to the log and to the error handler; never raises an ``Exception``.

    Args:
        service_name: for the log.
        error_handler: the service's, if it has one.
        clock_ns: a monotonic clock, in nanoseconds.
        stop: ends the service with an exception that is not an ``Exception``, such as ``SystemExit``; only signals.
    """

    def __init__(
        self,
        service_name: str,
        error_handler: ErrorHandler | None,
        clock_ns: Callable[[], int],
        stop: Callable[[BaseException], None],
    ) -> None:
        self._stop = stop
        self._service_name = service_name
        self._error_handler = error_handler
        self._clock_ns = clock_ns
        self._intervals: dict[_Key, _Interval] = {}
        self._handling: WorkQueue[tuple[Awaitable[None], str]] = WorkQueue(self._finish, MAX_WAITING_REPORTS)
        self._unhandled = 0
        self._is_open = True

    def report(
        self,
        error: Exception,
        endpoint: Endpoint | None = None,
        *,
        traceback: bool = False,
        raised_by: str = "the handler",
    ) -> None:
        """Log an error, with its traceback and what raised it if it was not expected, and call the error handler."""
        if isinstance(error, CAUSED_BY_PEERS) and not self._is_within_bounds((type(error), endpoint)):
            return
        where = self._where(endpoint)
        if traceback:
            logger.error("%s: %s raised", where, raised_by, exc_info=error)
        else:
            logger.warning("%s: %s", where, error)
        self._call_handler(error, endpoint, where)

    async def run(self) -> None:
        """Finish the calls of an async error handler, one after another, until cancelled."""
        await self._handling.run()

    async def wait_returned(self) -> None:
        """Wait until every async error handler so far has returned. Not a checkpoint if all have."""
        await self._handling.wait_empty()

    def report_dropped(self) -> None:
        """Report how many errors were left out so far."""
        for (kind, endpoint), interval in self._intervals.items():
            self._report_sum(kind, endpoint, interval)

    def forget(self, endpoint: Endpoint) -> None:
        """Keep nothing of an endpoint that was removed."""
        for key in [key for key in self._intervals if key[1] is endpoint]:
            self._report_sum(*key, self._intervals.pop(key))

    def close(self) -> None:
        """Call no more async error handlers."""
        self._is_open = False
        for result, _ in self._handling.clear():
            _discard(result)

    def _where(self, endpoint: Endpoint | None) -> str:
        return f"service {self._service_name}" + (f", endpoint {endpoint.name}" if endpoint is not None else "")

    def _is_within_bounds(self, key: _Key) -> bool:
        now = self._clock_ns()
        interval = self._intervals.get(key)
        if interval is None or now - interval.begun > INTERVAL_SECONDS * 1e9:
            if interval is not None:
                self._report_sum(*key, interval)
            interval = self._intervals[key] = _Interval(now)
        if interval.reported < MAX_REPORTS:
            interval.reported += 1
            return True
        interval.dropped += 1
        return False

    def _report_sum(self, kind: type[Exception], endpoint: Endpoint | None, interval: _Interval) -> None:
        if interval.dropped:
            error = ReportsDroppedError(interval.dropped, kind.__name__)
            interval.dropped = 0
            self.report(error, endpoint)

    def _call_handler(self, error: Exception, endpoint: Endpoint | None, where: str) -> None:
        if self._error_handler is None:
            return
        try:
            result = self._error_handler(error, endpoint)
        except BaseException as failure:  # noqa: ASYNC103  # what is no error of the handler stops the service
            rest = without_cancellations(failure)
            logger.exception("%s: the error handler raised", where)
            if rest is not None and not isinstance(rest, Exception):
                self._stop(rest)
            return  # noqa: ASYNC104
        if not inspect.isawaitable(result):
            return
        if not self._is_open:
            logger.warning("%s: the service has ended, its async error handler is not run", where)
            _discard(result)
        elif not self._handling.put((result, where)):
            self._unhandled += 1
            _discard(result)

    async def _finish(self, item: tuple[Awaitable[None], str]) -> None:
        result, where = item
        try:
            with anyio.fail_after(ERROR_HANDLER_SECONDS):
                await result
        except BaseException as failure:  # noqa: ASYNC103  # its own cancellation is raised again in there
            try:
                error_of_hook("the error handler", failure)
            except get_cancelled_exc_class():
                raise
            except BaseException as fatal:  # noqa: ASYNC103  # such as SystemExit
                self._stop(fatal)
            logger.exception("%s: the error handler raised", where)
        if self._unhandled and not self._handling.is_waiting:
            count, self._unhandled = self._unhandled, 0
            self._call_handler(ReportsDroppedError(count, "errors"), None, where)


def _discard(result: Awaitable[None]) -> None:
    if inspect.iscoroutine(result):
        result.close()
