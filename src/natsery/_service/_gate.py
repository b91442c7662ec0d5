"""What a request has to pass before its handler is called: its deadline, and a limiter."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import final

import anyio

from .._config import Limiter, Limits
from .._deadline_header import timeout_in
from .._errors import DeadlineExceededError
from .._message import NO_HEADERS
from ._request import Request


@final
class Gate:
    """Sets the deadlines of an endpoint's requests, and lets those through whose deadline has not passed.

    Args:
        limits: what the endpoint says.
        now: the event loop's clock, in seconds.

    Attributes:
        is_open: whether nothing of that concerns requests without headers.
        is_timed: whether it matters when a request came.
        limiter: bounds the handlers, if there is one.
    """

    def __init__(self, limits: Limits, now: Callable[[], float]) -> None:
        self._timeout = math.inf if limits.timeout is None else limits.timeout
        self._pending_seconds = math.inf if limits.pending_seconds is None else limits.pending_seconds
        self._is_from_arrival = bool(limits.timeout_from_arrival)
        self._now = now
        self.limiter: Limiter | None = limits.limiter
        self.is_timed: bool = self._is_from_arrival or self._pending_seconds < math.inf
        self.is_open: bool = self.limiter is None and not self.is_timed and self._timeout == math.inf

    async def enter(self, request: Request) -> None:
        """Set the request's deadline, and wait for the limiter; the caller gives that back.

        Raises:
            DeadlineExceededError: it has waited for too long.
        """
        last_moment = math.inf
        if request.headers is not NO_HEADERS:
            last_moment = request._arrived + timeout_in(request.headers)
        if self._is_from_arrival:
            last_moment = min(last_moment, request._arrived + self._timeout)
        latest_start = last_moment
        if self._pending_seconds < math.inf:
            latest_start = min(latest_start, request._arrived + self._pending_seconds)
        if latest_start <= self._now():
            raise self._expired(request)
        if self.limiter is not None:
            await self._wait(self.limiter, request, latest_start)
        request._deadline = last_moment if self._is_from_arrival else min(last_moment, self._now() + self._timeout)

    async def _wait(self, limiter: Limiter, request: Request, latest_start: float) -> None:
        with anyio.CancelScope(deadline=latest_start):
            await limiter.acquire_on_behalf_of(request)
            return
        raise self._expired(request)

    def _expired(self, request: Request) -> DeadlineExceededError:
        return DeadlineExceededError(request.endpoint.name, self._now() - request._arrived, has_started=False)
