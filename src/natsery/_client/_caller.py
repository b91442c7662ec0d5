"""Sends the requests of a `ServiceClient`: with the time that is left for them, and with instruments told."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, final

import anyio
from anyio import get_cancelled_exc_class

from .. import abc
from .._adr32 import DEADLINE_EXCEEDED, INTERNAL_ERROR
from .._deadline_header import TIMEOUT_HEADER, timeout_text
from .._errors import NoRespondersError
from .._fast_path import fast_path
from .._headers import Headers, HeadersInput
from .._instrumentation import Instruments
from .._instruments import GOOD, Call, Instrument, Outcome
from .._message import Message
from .._service_error import ServiceError

logger = logging.getLogger("natsery")

CANCELLED: Final = 499
"""The code of a call that was cancelled; HTTP servers log it for clients that have left."""

NO_RESPONDERS: Final = 503
"""The status that servers send for want of subscriptions."""


@final
class Caller:
    """Sends requests over a connection.

    Args:
        nc: the connection.
        instruments: who is told of each call.
    """

    def __init__(self, nc: abc.Connection, instruments: Sequence[Instrument]) -> None:
        self._nc = nc
        self._fast_path = fast_path(nc)
        self._instruments = Instruments(instruments, _report) if instruments else None

    async def call(
        self, subject: str, name: str, data: Any, headers: HeadersInput | None, read: Callable[[Message], Any]
    ) -> Any:
        """Send a request and return its reply as ``read`` gives it; ``name`` is that of its `Call`.

        Raises:
            ServiceError: the service answered with an error.
            Exception: what ``Connection.request`` and ``read`` raise.
        """
        deadline = anyio.current_effective_deadline()
        if deadline < math.inf:
            headers = self._with_timeout(headers, deadline - anyio.current_time(), len(data))
        if self._instruments is None:
            return await self._send(subject, data, headers, read)
        given = Headers(headers)
        with self._told(self._instruments, Call(subject, name, given.multi_items(), self._nc)) as call:
            return await self._send(subject, data, self._with_appended(call, given, len(data)), read)

    @contextmanager
    def stream(
        self, subject: str, name: str, headers: HeadersInput | None, data_size: int
    ) -> Iterator[HeadersInput | None]:
        """Give the headers for a request whose replies are read in the block, which is one call."""
        if self._instruments is None:
            yield headers
            return
        given = Headers(headers)
        with self._told(self._instruments, Call(subject, name, given.multi_items(), self._nc)) as call:
            yield self._with_appended(call, given, data_size)

    @contextmanager
    def _told(self, instruments: Instruments, call: Call) -> Iterator[Call]:
        deadline, begun = anyio.current_effective_deadline(), anyio.current_time()
        outcome = Outcome(GOOD)
        contexts = instruments.enter("call_started", call)
        try:
            with contexts:
                yield call
        except GeneratorExit:
            raise  # a generator around a stream was closed, which leaves the block as `break` does
        except BaseException as error:
            # In a scope that was cancelled before, the deadline is minus infinity.
            outcome = _outcome_of(error, is_late=-math.inf < deadline <= anyio.current_time())
            raise
        finally:
            instruments.tell("call_ended", call, outcome._replace(duration=anyio.current_time() - begun))

    async def _send(self, subject: str, data: Any, headers: HeadersInput | None, read: Callable[[Message], Any]) -> Any:
        reply = await self._nc.request(subject, data, headers=headers)
        error = ServiceError.from_message(reply)
        if error is not None:
            raise error
        return read(reply)

    def _with_appended(self, call: Call, given: Headers, data_size: int) -> Headers | None:
        """Return the headers of a call with those that instruments have appended, unless these cannot travel."""
        return self._if_they_travel(Headers(call.headers), given, data_size)

    def _with_timeout(self, headers: HeadersInput | None, seconds: float, data_size: int) -> Headers | None:
        """Return headers that say how much time is left, unless they do already, or cannot travel."""
        given = Headers(headers)
        if seconds <= 0 or TIMEOUT_HEADER in given:
            return given or None
        timeout = (TIMEOUT_HEADER, timeout_text(seconds))
        return self._if_they_travel(Headers((*given.multi_items(), timeout)), given, data_size)

    def _if_they_travel(self, more: Headers, given: Headers, data_size: int) -> Headers | None:
        """Return ``more`` headers if the server takes them beside so much data, otherwise those that were given."""
        can_travel = self._fast_path._takes_headers and more._wire_size + data_size <= self._nc.max_payload
        return (more if can_travel else given) or None


def _report(instrument: Instrument, error: BaseException) -> None:
    if not isinstance(error, Exception):
        raise error
    logger.error("the instrument %s, which is told nothing more, raised", type(instrument).__name__, exc_info=error)


def _outcome_of(error: BaseException, *, is_late: bool) -> Outcome:
    if isinstance(error, ServiceError):
        return Outcome(error.code, description=error.description, error=error)
    if isinstance(error, NoRespondersError):
        return Outcome(NO_RESPONDERS, description=str(error), error=error)
    if isinstance(error, get_cancelled_exc_class()):
        code, description = DEADLINE_EXCEEDED if is_late else (CANCELLED, "Cancelled")
        return Outcome(code, description=description, error=error)
    code, description = INTERNAL_ERROR
    return Outcome(code, description=_text_of(error) or description, error=error)


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # a broken `__str__` must not hide the error itself
        return ""
