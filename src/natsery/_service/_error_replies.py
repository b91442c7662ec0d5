"""Requests that failed: how each is answered, counted and reported."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, final

import anyio
from anyio.lowlevel import checkpoint

from .._adr32 import DEADLINE_EXCEEDED, INTERNAL_ERROR, STOPPING, TOO_LARGE, error_headers
from .._errors import MaxPayloadError, NatseryError, NoReplySubjectError, ServiceError
from .._message import HeadersInput
from .._statistics import Counters, FailureCause
from ._invoke import DeadlineExceededError, is_only_cancellations, split_cancellations
from ._request import Request

if TYPE_CHECKING:
    from ._endpoint import Endpoint
    from ._service import Service


@final
class Failures:
    """What becomes of an endpoint's requests that do not end well."""

    def __init__(self, service: Service, endpoint: Endpoint, counters: Counters) -> None:
        self._service = service
        self._fast_path = service._fast_path
        self._reports = service._reports
        self._endpoint = endpoint
        self._counters = counters

    async def answer(self, request: Request, error: Exception, elapsed_ns: int) -> None:
        """Account for a request whose handler raised, and answer it if nobody has yet."""
        if request._has_ended:
            self._reports.report(error, self._endpoint, traceback=True)
            return
        data, headers = b"", None
        if isinstance(error, ServiceError):
            cause, code, description = FailureCause.SERVICE_ERROR, error.code, error.description
            data, headers = error.data, error.headers
        elif isinstance(error, DeadlineExceededError):
            cause, (code, description) = FailureCause.TIMEOUT, DEADLINE_EXCEEDED
        elif isinstance(error, MaxPayloadError):
            cause, (code, description) = FailureCause.UNDELIVERABLE, TOO_LARGE
            self._reports.report(error, self._endpoint)
        elif request._failure is not None and request._failure[0] is FailureCause.UNDELIVERABLE:
            cause, code, description = request._failure
            self._reports.report(error, self._endpoint, traceback=not isinstance(error, NatseryError))
            request._has_responded = True  # the connection does not take an error reply either
        else:
            cause, (code, description) = FailureCause.EXCEPTION, INTERNAL_ERROR
            self._reports.report(error, self._endpoint, traceback=True)
        await self._settle(request, cause, (code, description), elapsed_ns, data, headers)

    async def _settle(
        self,
        request: Request,
        cause: FailureCause,
        answer: tuple[int, str],
        elapsed_ns: int,
        data: bytes = b"",
        headers: HeadersInput | None = None,
    ) -> None:
        request._has_ended = True
        self._counters.count_failure(cause, *answer, elapsed_ns)
        if request._has_responded or not request.reply:
            if not request.reply and cause is FailureCause.SERVICE_ERROR:
                self._reports.report(NoReplySubjectError(request.subject), self._endpoint)
            return
        try:
            try:
                await self._fast_path._send(request.reply, data, headers=error_headers(*answer, headers))
            except MaxPayloadError as error:
                self._reports.report(error, self._endpoint)
                await self._fast_path._send(request.reply, b"", headers=error_headers(*TOO_LARGE))
        except NatseryError as error:
            self._reports.report(error, self._endpoint)

    def cut_off(self, request: Request, elapsed_ns: int) -> None:
        """Count a request that the end of the service has overtaken, and answer it if nobody has yet."""
        request._has_ended = True
        self._counters.count_failure(FailureCause.STOPPING, *STOPPING, elapsed_ns)
        if not request._has_responded:
            self._service._refusals.refuse(request.reply, STOPPING)

    async def end_abruptly(self, request: Request, error: BaseException, elapsed_ns: int) -> None:
        """A handler ended in something that is no ``Exception``: a cancellation, ours or stray, or a wish to exit."""
        if isinstance(error, GeneratorExit):
            raise error
        if anyio.current_effective_deadline() == -math.inf:
            if not request._has_ended:
                self.cut_off(request, elapsed_ns)
            cancellation, others = split_cancellations(error)
            if isinstance(others, Exception):
                self._reports.report(others, self._endpoint, traceback=True)
            elif others is not None:
                self._service._crash(others)
            if cancellation is not None:
                raise cancellation
            await checkpoint()
        if is_only_cancellations(error):
            # Nobody cancelled this worker: the handler let another task's cancellation out, as `await task` does in
            # asyncio. Passing it on would end the worker without a word.
            stray = RuntimeError(f"the handler raised {type(error).__name__} although nothing cancelled it")
            stray.__cause__ = error
            await self.answer(request, stray, elapsed_ns)
            return
        if not request._has_ended:
            await self._settle(request, FailureCause.EXCEPTION, INTERNAL_ERROR, elapsed_ns)
        self._service._crash(error)
