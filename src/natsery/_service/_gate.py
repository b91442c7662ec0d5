"""What a request has to pass before its handler is called: its deadline, and a limiter."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import final

import anyio

from .._deadline_header import timeout_in
from .._errors import DeadlineExceededError
from .._handlers import Handler
from .._headers import NO_HEADERS
from .._limits import Limiter, Limits
from ._request import Request


@final
class Gate:
    """Sets the deadlines of an endpoint's requests, and lets those through whose deadline has not passed.

    Args:
        limits: what the endpoint says.
        now: the event loop's clock, in seconds.
        wrap: what stands around a handler and its deadline, but inside the gate.

    Attributes:
        limiter: bounds the handlers, if there is one.
    """

    def __init__(self, limits: Limits, now: Callable[[], float], wrap: Callable[[Handler], Handler]) -> None:
        self._wrap = wrap
        self._timeout = math.inf if limits.timeout is None else limits.timeout
        self._pending_seconds = math.inf if limits.pending_seconds is None else limits.pending_seconds
        self._is_from_arrival = bool(limits.timeout_from_arrival)
        self._now = now
        self._is_timed = is_timed(limits)
        self.limiter: Limiter | None = limits.limiter

    def around_plain(self, handler: Handler) -> Handler:
        """Return a handler behind what concerns requests that say no time themselves: the handler itself if that is nothing."""
        if self.limiter is not None or self._is_timed:
            return self.around(handler)
        if self._timeout == math.inf:
            return self._wrap(handler)
        now, timeout = self._now, self._timeout

        async def call_within(request: Request) -> bytes | None:
            # `_until_deadline`, written out: a call less for each request.
            request._deadline = deadline = now() + timeout
            with anyio.CancelScope(deadline=deadline):
                return await handler(request)
            raise _exceeded(request)

        return self._wrap(call_within)

    def around(self, handler: Handler) -> Handler:
        """Return a handler behind all of it."""
        limiter = self.limiter
        without_deadline, with_deadline = self._wrap(handler), self._wrap(partial(_until_deadline, handler))

        def call(request: Request, last_moment: float) -> Awaitable[bytes | None]:
            deadline = min(last_moment, self._now() + self._timeout)
            if deadline == math.inf:
                return without_deadline(request)
            request._deadline = deadline
            return with_deadline(request)

        async def pass_gate(request: Request) -> bytes | None:
            latest_start = last_moment = self._last_moment(request)
            if self._pending_seconds < math.inf:
                latest_start = min(latest_start, request._arrived + self._pending_seconds)
            if latest_start <= self._now():
                raise self._expired(request)
            if limiter is None:
                return await call(request, last_moment)
            await self._wait(limiter, request, latest_start)
            try:
                if request._has_ended:
                    return None  # it was cut off, and got its token all the same
                return await call(request, last_moment)
            finally:
                limiter.release_on_behalf_of(request)

        return pass_gate

    def _last_moment(self, request: Request) -> float:
        moment = math.inf
        if request.headers is not NO_HEADERS:
            seconds = timeout_in(request.headers)
            if seconds < math.inf:
                moment = request._arrived + seconds
        if self._is_from_arrival:
            moment = min(moment, request._arrived + self._timeout)
        return moment

    async def _wait(self, limiter: Limiter, request: Request, latest_start: float) -> None:
        with anyio.CancelScope(deadline=latest_start):
            await limiter.acquire_on_behalf_of(request)
            return
        raise self._expired(request)

    def _expired(self, request: Request) -> DeadlineExceededError:
        return DeadlineExceededError(request.endpoint.name, self._now() - request._arrived, has_started=False)


def is_timed(limits: Limits) -> bool:
    """Whether it matters when a request came that says no time itself."""
    return bool(limits.timeout_from_arrival) or (limits.pending_seconds or math.inf) < math.inf


async def _until_deadline(handler: Handler, request: Request) -> bytes | None:
    """Call a handler that is cut off at the request's deadline."""
    with anyio.CancelScope(deadline=request._deadline):
        return await handler(request)
    raise _exceeded(request)


def _exceeded(request: Request) -> DeadlineExceededError:
    elapsed_ns = request.endpoint._context.clock_ns() - request._begun
    return DeadlineExceededError(request.endpoint.name, elapsed_ns / 1e9)
