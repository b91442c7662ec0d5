"""How requests end: each is counted once, told to instruments, and answered if it has failed."""

from __future__ import annotations

import inspect
import math
from collections import deque
from collections.abc import Collection
from typing import TYPE_CHECKING, final

import anyio
from anyio.lowlevel import checkpoint

from .._adr32 import BAD_REQUEST, DEADLINE_EXCEEDED, INTERNAL_ERROR, STOPPING, TOO_LARGE
from .._core._limits import RECENT_REPLIES
from .._errors import (
    DeadlineExceededError,
    InvalidBodyError,
    MalformedRequestError,
    MaxPayloadError,
    NatseryError,
    NoReplySubjectError,
    PublishDeniedError,
)
from .._headers import HeadersInput
from .._service_error import ServiceError, error_headers, sendable_error_headers, sole_service_error
from .._statistics import Counters, Failure, FailureCause
from ._invoke import split_cancellations, stray_cancellation, without_cancellations
from ._observer import MALFORMED, Observer
from ._request import Request

if TYPE_CHECKING:
    from ._context import ServiceContext
    from ._endpoint import Endpoint


@final
class Endings:
    """Ends an endpoint's requests: counts each once, reports and answers those that failed, and tells of all.

    Attributes:
        observer: who is told how requests have ended, if anybody is. ``RequestQueue._work`` writes ``end_well`` out where
            nobody is.
    """

    def __init__(self, context: ServiceContext, endpoint: Endpoint, counters: Counters) -> None:
        self._context = context
        self._fast_path = context.fast_path
        self._errors = context.errors
        self._endpoint = endpoint
        self._counters = counters
        self._failed_replies: deque[str] | None = None  # made for the first one, which most endpoints never have
        self.observer: Observer | None = None

    def end_well(self, request: Request, elapsed_ns: int) -> None:
        """End a request that did not fail."""
        request._has_ended = request._is_released = True
        self._counters.count_good(elapsed_ns)
        if self.observer is not None:
            self.observer.end(request, None, elapsed_ns)

    def drop_malformed(self, request: Request, reason: str) -> None:
        """Drop a request that may not be answered; it is not counted among the requests."""
        self._counters.malformed += 1
        self._report(MalformedRequestError(request.subject, reason), request)
        if self.observer is not None:
            self.observer.refuse(request, MALFORMED)

    def lose(self, failure: Failure) -> None:
        """Count a request that was lost on the way to this endpoint."""
        self._counters.count_failure(failure)
        if self.observer is not None:
            self.observer.lose(failure)

    def end(self, request: Request, failure: Failure, elapsed_ns: int, error: BaseException | None = None) -> None:
        """End a request that failed and has its answer."""
        request._has_ended = request._is_released = True
        self._counters.count_failure(failure, elapsed_ns)
        self._remember(request.reply)
        if self.observer is not None:
            self.observer.end(request, failure, elapsed_ns, error)

    def turn_into_failure(self, reply: str, failure: Failure, error: PublishDeniedError) -> None:
        """Count a request as failed that was counted as good, because the server has refused its reply since."""
        self._counters.turn_into_failure(failure)
        self._remember(reply)
        if self.observer is not None:
            self.observer.deny(error)

    def _remember(self, reply: str) -> None:
        if self._failed_replies is None:
            self._failed_replies = deque(maxlen=RECENT_REPLIES)
        self._failed_replies.append(reply)

    def has_failed(self, error: PublishDeniedError) -> bool:
        """Whether the reply that the server did not let through is one to a request that is counted as failed already."""
        return find_reply(self._failed_replies or (), error) is not None

    def refuse(self, request: Request, failure: Failure, elapsed_ns: int = 0) -> None:
        """End a request from synchronous code, and have the error sent soon unless one has been sent."""
        if request._has_sent_error and request._failure is not None:
            failure = request._failure
        else:
            self._context.refusals.refuse(request.reply, failure)
        self.end(request, failure, elapsed_ns)

    def cut_off(self, request: Request, elapsed_ns: int = 0) -> None:
        """Refuse a request because the service has ended."""
        self.refuse(request, Failure(FailureCause.STOPPING, *STOPPING), elapsed_ns)

    async def answer(self, request: Request, error: Exception, elapsed_ns: int) -> None:
        """End a request whose handler raised, and send the error unless one has been sent."""
        error = sole_service_error(error)
        if request._has_ended:
            self._report(error, request, traceback=True)
        elif request._has_sent_error and request._failure is not None:
            # What the requester has been told is what counts.
            self._report(error, request, traceback=not isinstance(error, (ServiceError, NatseryError)))
            self.end(request, request._failure, elapsed_ns, error)
        elif isinstance(error, ServiceError):
            failure = Failure(FailureCause.SERVICE_ERROR, error.code, error.description)
            await self._end_with_reply(request, failure, elapsed_ns, error, error.data, error._headers)
        elif isinstance(error, InvalidBodyError):
            failure = Failure(FailureCause.INVALID_BODY, BAD_REQUEST, str(error))
            await self._end_with_reply(request, failure, elapsed_ns, error)
        elif isinstance(error, DeadlineExceededError):
            self._report(error, request)
            cause = FailureCause.TIMEOUT if error.has_started else FailureCause.EXPIRED
            await self._end_with_reply(request, Failure(cause, *DEADLINE_EXCEEDED), elapsed_ns, error)
        elif isinstance(error, MaxPayloadError):
            self._report(error, request)
            failure = Failure(FailureCause.UNDELIVERABLE, *TOO_LARGE)
            await self._end_with_reply(request, failure, elapsed_ns, error)
        elif (
            request._failure is not None
            and request._failure.cause is FailureCause.UNDELIVERABLE
            and request._failure[1:] != TOO_LARGE
        ):
            # The connection does not take an error reply either.
            self._report(error, request, traceback=not isinstance(error, NatseryError))
            self.end(request, request._failure, elapsed_ns, error)
        else:
            self._report(error, request, traceback=True)
            failure = Failure(FailureCause.EXCEPTION, *INTERNAL_ERROR)
            await self._end_with_reply(request, failure, elapsed_ns, error)

    def _report(self, error: Exception, request: Request, *, traceback: bool = False) -> None:
        self._errors.report(error, self._endpoint, request, traceback=traceback)

    async def _end_with_reply(
        self,
        request: Request,
        failure: Failure,
        elapsed_ns: int,
        error: BaseException,
        data: bytes = b"",
        headers: HeadersInput | None = None,
    ) -> None:
        request._has_ended = request._is_released = True  # nothing else ends it while its answer waits to be sent
        try:
            if request.reply:
                failure = await self._send(request, failure, data, headers)
            elif failure.cause is FailureCause.SERVICE_ERROR:
                self._report(NoReplySubjectError(request.subject), request)
        finally:
            self.end(request, failure, elapsed_ns, error)

    async def _send(self, request: Request, failure: Failure, data: bytes, headers: HeadersInput | None) -> Failure:
        """Send an error reply, and without what stands in its way if need be; return as what the request counts then."""
        block, problem = sendable_error_headers(failure.code, failure.description, headers)
        if problem is not None:
            self._report(problem, request)
        try:
            try:
                await self._fast_path._send(request.reply, data, headers=block)
            except MaxPayloadError as error:
                self._report(error, request)
                request._note_undelivered(error)
                await self._fast_path._send(request.reply, headers=error_headers(*TOO_LARGE))
            else:
                return failure
        except Exception as error:  # whatever the reply subject is that a handler has set, or another connection raises
            self._report(error, request)
            request._note_undelivered(error)
        return request._failure or failure

    def report_silence_by_mistake(self, request: Request) -> None:
        """Report that a handler called ``respond…`` and did not await it, if that is why it has sent nothing."""
        call = getattr(request, "_call", None)
        if call is not None and inspect.getcoroutinestate(call) == inspect.CORO_CREATED:
            error = RuntimeError(
                "respond was called without await, so nothing was sent; write 'await request.respond(...)'"
            )
            self._report(error, request)

    async def end_abruptly(self, request: Request, error: BaseException, elapsed_ns: int) -> None:
        """End a request whose handler ended in a cancellation, ours or stray, or in an exception that ends the service."""
        if isinstance(error, GeneratorExit):
            raise error
        if anyio.current_effective_deadline() == -math.inf:
            if not request._has_ended:
                self.cut_off(request, elapsed_ns)
            cancellation, others = split_cancellations(error)
            if isinstance(others, Exception):
                self._report(others, request, traceback=True)
            elif others is not None:
                self._context.stop(others)
            if cancellation is not None:
                raise cancellation
            await checkpoint()
        rest = without_cancellations(error)
        if rest is None:
            # This worker was not cancelled: the handler let another task's cancellation out, as `await task` does in
            # asyncio. Passing it on would end the worker without a trace.
            rest = stray_cancellation("the handler", error)
        if isinstance(rest, Exception):
            await self.answer(request, rest, elapsed_ns)
            return
        if not request._has_ended:
            await self._end_with_reply(request, Failure(FailureCause.EXCEPTION, *INTERNAL_ERROR), elapsed_ns, rest)
        rest.add_note(f"raised by the handler of endpoint {self._endpoint.name!r}")
        self._context.stop(rest)


def find_reply(replies: Collection[str], error: PublishDeniedError) -> str | None:
    """Return which of these reply subjects the server denies, ``None`` if it is none of them."""
    subject = error.subject
    if subject in replies:
        return subject
    # nats-py passes the server's text on in lower case, where the exact text is not found.
    return next(filter(error.concerns, replies), None) if subject == subject.lower() else None
