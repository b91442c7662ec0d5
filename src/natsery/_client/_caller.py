"""Sends the requests of a `ServiceClient`: with the time that is left for them, and with instruments told."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, final

import anyio
from anyio import get_cancelled_exc_class

from .. import abc
from .._adr32 import DEADLINE_EXCEEDED, INTERNAL_ERROR
from .._deadline_header import TIMEOUT_HEADER, timeout_text
from .._errors import NoRespondersError
from .._fast_path import fast_path
from .._instruments import GOOD, Call, Instrument, Outcome
from .._message import Headers, HeadersInput, Message
from .._service_error import ServiceError
from .._telling import Instruments

CANCELLED = 499
NO_RESPONDERS = 503


@final
class Caller:
    """Sends requests over a connection.

    Args:
        nc: the connection.
        instruments: who is told of each call.
        report: called with an instrument that has raised.
    """

    def __init__(
        self,
        nc: abc.Connection,
        instruments: Sequence[Instrument],
        report: Callable[[Instrument, BaseException], None],
    ) -> None:
        self._nc = nc
        self._fast_path = fast_path(nc)
        self._instruments = Instruments(instruments, report) if instruments else None

    async def call(
        self, subject: str, method: str, data: Any, headers: HeadersInput | None, read: Callable[[Message], Any]
    ) -> Any:
        """Send a request and return its reply as ``read`` gives it.

        Raises:
            ServiceError: the service answered with an error.
            Exception: what ``Connection.request`` and ``read`` raise.
        """
        deadline = anyio.current_effective_deadline()
        if deadline < math.inf:
            headers = self._with_timeout(headers, deadline - anyio.current_time(), len(data))
        if self._instruments is None:
            return await self._send(subject, data, headers, read)
        with self._told(self._instruments, Call(subject, method, [*Headers(headers).multi_items()], self._nc)) as call:
            return await self._send(subject, data, call.headers or None, read)

    @contextmanager
    def stream(self, subject: str, method: str, headers: HeadersInput | None) -> Iterator[HeadersInput | None]:
        """Give the headers for a request whose replies are read in the block, which is one call."""
        if self._instruments is None:
            yield headers
            return
        with self._told(self._instruments, Call(subject, method, [*Headers(headers).multi_items()], self._nc)) as call:
            yield call.headers or None

    @contextmanager
    def _told(self, instruments: Instruments, call: Call) -> Iterator[Call]:
        deadline, begun = anyio.current_effective_deadline(), anyio.current_time()
        outcome = Outcome(GOOD)
        contexts = instruments.enter("call_started", call)
        try:
            with contexts:
                yield call
        except BaseException as error:
            outcome = _outcome_of(error, is_late=anyio.current_time() >= deadline)
            raise
        finally:
            instruments.tell("call_ended", call, outcome._replace(duration=anyio.current_time() - begun))

    async def _send(self, subject: str, data: Any, headers: HeadersInput | None, read: Callable[[Message], Any]) -> Any:
        reply = await self._nc.request(subject, data, headers=headers)
        error = ServiceError.from_message(reply)
        if error is not None:
            raise error
        return read(reply)

    def _with_timeout(self, headers: HeadersInput | None, seconds: float, data_size: int) -> HeadersInput | None:
        """Return headers that say how much time is left, unless they do already, or cannot travel."""
        given = Headers(headers)
        if seconds <= 0 or TIMEOUT_HEADER in given or not self._fast_path._takes_headers:
            return headers
        more = Headers((*given.multi_items(), (TIMEOUT_HEADER, timeout_text(seconds))))
        return more if more._wire_size + data_size <= self._nc.max_payload else headers


def _outcome_of(error: BaseException, *, is_late: bool) -> Outcome:
    if isinstance(error, ServiceError):
        return Outcome(error.code, description=error.description, error=error)
    if isinstance(error, NoRespondersError):
        return Outcome(NO_RESPONDERS, description=str(error), error=error)
    if isinstance(error, get_cancelled_exc_class()):
        code, description = DEADLINE_EXCEEDED if is_late else (CANCELLED, "Cancelled")
        return Outcome(code, description=description, error=error)
    code, description = INTERNAL_ERROR
    return Outcome(code, description=str(error) or description, error=error)
