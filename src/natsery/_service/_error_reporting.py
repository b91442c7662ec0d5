"""Where errors go that no caller gets: the log, and the service's error handler."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable
from typing import TYPE_CHECKING, final

import anyio
from anyio.abc import TaskGroup

from .._condition_event import ConditionEvent

if TYPE_CHECKING:
    from .._config import ErrorHandler
    from ._endpoint import Endpoint

logger = logging.getLogger("natsery")

ERROR_HANDLER_SECONDS = 5.0
"""How long an async error handler may take over one error before it is cancelled."""


@final
class ErrorReporter:
    """Reports to the log and to the error handler; never raises an ``Exception``."""

    def __init__(self, service_name: str, error_handler: ErrorHandler | None) -> None:
        self._service_name = service_name
        self._error_handler = error_handler
        self._tasks: TaskGroup | None = None
        self._running = 0
        self._all_returned = ConditionEvent(lambda: not self._running)

    def open(self, tasks: TaskGroup) -> None:
        """Run async error handlers in this task group from now on."""
        self._tasks = tasks

    def close(self) -> None:
        """Run no more async error handlers."""
        self._tasks = None

    async def wait_returned(self) -> None:
        """Wait until every async error handler so far has returned."""
        await self._all_returned.wait()

    def report(self, error: Exception, endpoint: Endpoint | None = None, *, traceback: bool = False) -> None:
        """Log an error, with its traceback if it was not expected, and call the error handler."""
        where = f"service {self._service_name}" + (f", endpoint {endpoint.name}" if endpoint is not None else "")
        if traceback:
            logger.error("%s: the handler raised", where, exc_info=error)
        else:
            logger.warning("%s: %s", where, error)
        if self._error_handler is None:
            return
        try:
            result = self._error_handler(error, endpoint)
        except Exception:
            logger.exception("%s: the error handler raised", where)
            return
        if inspect.isawaitable(result):
            if self._tasks is None:
                logger.warning("%s: the service has ended, its async error handler is not run", where)
                _discard(result)
            else:
                self._running += 1
                self._tasks.start_soon(self._finish, result, where, name="natsery error handler")

    async def _finish(self, result: Awaitable[None], where: str) -> None:
        try:
            with anyio.fail_after(ERROR_HANDLER_SECONDS):
                await result
        except Exception:
            logger.exception("%s: the error handler raised", where)
        finally:
            self._running -= 1
            self._all_returned.check()


def _discard(result: Awaitable[None]) -> None:
    if inspect.iscoroutine(result):
        result.close()
