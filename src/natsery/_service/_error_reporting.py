"""Where errors go that no caller gets: the log, and the service's error handler; both bounded."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeAlias, final

import anyio
from anyio import get_cancelled_exc_class

from .._errors import (
    DeadlineExceededError,
    EndpointOverloadedError,
    MalformedRequestError,
    NoReplySubjectError,
    PublishDeniedError,
    ReportsDroppedError,
    printable,
)
from .._running_loop import note_wrong_loop
from ._invoke import error_of_hook, without_cancellations
from ._work_queue import WorkQueue

if TYPE_CHECKING:
    from .._service_config import ServiceConfig
    from ._endpoint import Endpoint
    from ._request import Request

logger = logging.getLogger("natsery")

ERROR_HANDLER_SECONDS: Final = 5.0
"""How long an async error handler may take over one error before it is cancelled."""

MAX_WAITING_REPORTS: Final = 1_000
"""Errors that may wait for an async error handler; of those beyond, it is given the number."""

MAX_WAITING_BYTES: Final = 16 * 1024 * 1024
"""Bytes of requests that errors may keep while they wait for an async error handler."""

MAX_REPORTS: Final = 20
"""Errors of one kind that are reported in an interval if any peer can cause them; of those beyond, the number is."""

INTERVAL_SECONDS: Final = 1.0

CAUSED_BY_PEERS: Final = (
    DeadlineExceededError,
    EndpointOverloadedError,
    MalformedRequestError,
    NoReplySubjectError,
    PublishDeniedError,
)

_Key: TypeAlias = "tuple[type[Exception], Endpoint | None]"

_About: TypeAlias = tuple[str, dict[str, str]]
"""How a log record begins, and what it carries besides its text."""


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
        config: the service's, with its error handler.
        instance: the instance's id, for the log.
        stop: ends the service with an exception that is not an ``Exception``, such as ``SystemExit``; only signals.
    """

    def __init__(
        self,
        config: ServiceConfig,
        instance: str,
        stop: Callable[[BaseException], None],
    ) -> None:
        self._stop = stop
        self._service_name = config.name
        self._instance = instance
        self._error_handler = config.error_handler
        self._clock_ns = config.clock.monotonic_ns
        self._intervals: dict[_Key, _Interval] = {}
        self._handling: WorkQueue[tuple[Awaitable[None], _About]] = WorkQueue(
            self._finish, MAX_WAITING_REPORTS, max_bytes=MAX_WAITING_BYTES
        )
        self._unhandled = 0
        self._is_open = True

    def report(
        self,
        error: Exception,
        endpoint: Endpoint | None = None,
        request: Request | None = None,
        *,
        traceback: bool = False,
        raised_by: str = "the handler",
    ) -> None:
        """Log an error, with its traceback and what raised it if it was not expected, and call the error handler."""
        if isinstance(error, CAUSED_BY_PEERS) and not self._is_within_bounds((type(error), endpoint)):
            return
        about = where, extra = self._about(endpoint, request)
        if traceback:
            note_wrong_loop(error)
            logger.error("%s: %s raised", where, raised_by, exc_info=error, extra=extra)
        else:
            logger.warning("%s: %s", where, error, extra=extra)
        self._call_handler(error, endpoint, request, about)

    async def run(self) -> None:
        """Finish the calls of an async error handler, one after another, until cancelled."""
        await self._handling.run()

    async def wait_returned(self) -> None:
        """Wait until every async error handler so far has returned. Not a checkpoint if all have."""
        await self._handling.wait_empty()

    def report_dropped(self) -> None:
        """Report how many errors were left out so far. Called at the end."""
        for (kind, endpoint), interval in self._intervals.items():
            self._report_sum(kind, endpoint, interval)

    def forget(self, endpoint: Endpoint) -> None:
        """Keep nothing of an endpoint that was removed."""
        for kind in CAUSED_BY_PEERS:
            interval = self._intervals.pop((kind, endpoint), None)
            if interval is not None:
                self._report_sum(kind, endpoint, interval)

    def close(self) -> None:
        """Call no more async error handlers."""
        self._is_open = False
        for result, _ in self._handling.clear():
            _discard(result)

    def _about(self, endpoint: Endpoint | None, request: Request | None) -> _About:
        """Return what log records say of where an error was; each value always, for a formatter may name it."""
        subject = "" if request is None else printable(request.subject)
        extra = {"service": self._service_name, "instance": self._instance, "endpoint": "", "subject": subject}
        if endpoint is None:
            return f"service {self._service_name}", extra
        extra |= {"endpoint": endpoint.name, "subject": subject or endpoint.subject}
        return f"service {self._service_name}, endpoint {endpoint.name}", extra

    def _is_within_bounds(self, key: _Key) -> bool:
        now = self._clock_ns()
        interval = self._intervals.get(key)
        if interval is None or now - interval.begun > INTERVAL_SECONDS * 1e9:
            last, interval = interval, _Interval(now)
            self._intervals[key] = interval
            if last is not None:
                self._report_sum(*key, last)
        if interval.reported < MAX_REPORTS:
            interval.reported += 1
            return True
        interval.dropped += 1
        return False

    def _report_sum(self, kind: type[Exception], endpoint: Endpoint | None, interval: _Interval) -> None:
        if interval.dropped:
            self.report(ReportsDroppedError(interval.dropped, kind.__name__), endpoint)

    def _call_handler(
        self, error: Exception, endpoint: Endpoint | None, request: Request | None, about: _About
    ) -> None:
        if self._error_handler is None:
            return
        where, extra = about
        try:
            result = self._error_handler(error, endpoint, request)
        except BaseException as failure:  # noqa: ASYNC103  # what is no error of the handler stops the service
            rest = without_cancellations(failure)
            logger.exception("%s: the error handler raised", where, extra=extra)
            if rest is not None and not isinstance(rest, Exception):
                self._stop(rest)
            return  # noqa: ASYNC104
        if not inspect.isawaitable(result):
            return
        if not self._is_open:
            text = "%s: the service has ended, its async error handler is not run"
            logger.warning(text, where, extra=extra)
            _discard(result)
        elif not self._handling.put((result, about), 0 if request is None else request._size):
            self._unhandled += 1
            _discard(result)

    async def _finish(self, item: tuple[Awaitable[None], _About]) -> None:
        result, (where, extra) = item
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
            logger.exception("%s: the error handler raised", where, extra=extra)
        if self._unhandled and not self._handling.is_waiting:
            count, self._unhandled = self._unhandled, 0
            self._call_handler(ReportsDroppedError(count, "errors"), None, None, self._about(None, None))


def _discard(result: Awaitable[None]) -> None:
    if inspect.iscoroutine(result):
        result.close()
