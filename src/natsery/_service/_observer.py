"""Tells the service's instruments of the requests of one endpoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, final

from .._errors import PublishDeniedError
from .._instrumentation import Contexts, Instruments
from .._instruments import GOOD, Outcome
from .._statistics import Failure, FailureCause
from ._request import Request

if TYPE_CHECKING:
    from ._endpoint import Endpoint


@final
class Observer:
    """Tells of each request once that it has started, and once that it has ended or was refused.

    Args:
        endpoint: whose requests these are.
        instruments: who is told.
        now: the event loop's clock, in seconds.
    """

    def __init__(self, endpoint: Endpoint, instruments: Instruments, now: Callable[[], float]) -> None:
        self._endpoint = endpoint
        self._instruments = instruments
        self._now = now
        self._waited: dict[Request, float] = {}  # those that have started

    def start(self, request: Request) -> Contexts:
        """Tell that a handler is about to be called; return what is entered around it."""
        self._waited[request] = self._now() - request._arrived
        return self._instruments.enter("request_started", request)

    def end(
        self, request: Request, failure: Failure | None, elapsed_ns: int, error: BaseException | None = None
    ) -> None:
        """Tell how a request has ended, as refused if its handler was not called."""
        waited = self._waited.pop(request, None)
        if waited is None:
            self.refuse(request, failure, error)
        else:
            self._instruments.tell("request_ended", request, _outcome(failure, elapsed_ns / 1e9, waited, error))

    def refuse(self, request: Request, failure: Failure | None, error: BaseException | None = None) -> None:
        """Tell that a request has ended whose handler was not called."""
        request.endpoint = self._endpoint
        outcome = _outcome(failure, 0.0, self._now() - request._arrived, error)
        self._instruments.tell("request_refused", self._endpoint, request, outcome)

    def lose(self, failure: Failure) -> None:
        """Tell that a request was refused of which nothing is known any more."""
        self._instruments.tell("request_refused", self._endpoint, None, _outcome(failure, 0.0, 0.0, None))

    def deny(self, error: PublishDeniedError) -> None:
        """Tell that the server has refused the reply of a request that was told as ended well."""
        self._instruments.tell("reply_denied", self._endpoint, error)


def _outcome(failure: Failure | None, duration: float, waited: float, error: BaseException | None) -> Outcome:
    if failure is None:
        return Outcome(GOOD, duration=duration, waited=waited)
    cause, code, description = failure
    return Outcome(code, cause, description, duration, waited, error)


MALFORMED = Failure(FailureCause.MALFORMED, 400, "Bad Reply Subject")
