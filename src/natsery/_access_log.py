"""`AccessLog`: an instrument that writes a line for each request."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final, final

from ._errors import printable
from ._instruments import Instrument, Outcome

if TYPE_CHECKING:
    from ._service._endpoint import Endpoint
    from ._service._request import Request

MAX_REFUSED: Final = 20
"""Requests that were refused and are logged one by one in a second; of those beyond, the number is."""

_LEAST_SERVER_ERROR: Final = 500


@final
class AccessLog(Instrument):
    """Logs each request when it has ended::

        natsery.ServiceConfig(..., instruments=[natsery.AccessLog()])

    writes lines such as ``calc/add 200 1.3 ms, waited 0.1 ms``, requests that counted as failed with their description. Each
    record has as ``extra``, for formatters and JSON: ``service``, ``instance``, ``endpoint``, ``subject``, ``code``, ``cause``
    (``""`` for none), ``duration`` and ``waited`` in seconds, and ``request_size`` in bytes, headers included. The level is
    INFO, and WARNING for codes from 500 on.

    Requests that were refused, of which there may be very many, are logged one by one up to 20 a second; of those beyond, the
    number is, with ``refused`` as ``extra``.

    Args:
        logger: where it logs; ``logging.getLogger("natsery.access")`` if left out.
    """

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logging.getLogger("natsery.access") if logger is None else logger
        self._second = 0
        self._refused = 0

    def request_ended(self, request: Request, outcome: Outcome) -> None:
        """Log a request."""
        self._log(request.endpoint, request, outcome)

    def request_refused(self, endpoint: Endpoint, request: Request | None, outcome: Outcome) -> None:
        """Log a request, unless there are too many."""
        second = int(time.monotonic())
        if second != self._second:
            beyond, self._second, self._refused = self._refused - MAX_REFUSED, second, 0
            if beyond > 0:
                self._logger.warning("%d more requests were refused", beyond, extra={"refused": beyond})
        self._refused += 1
        if self._refused <= MAX_REFUSED:
            self._log(endpoint, request, outcome)

    def _log(self, endpoint: Endpoint, request: Request | None, outcome: Outcome) -> None:
        level = logging.WARNING if outcome.code >= _LEAST_SERVER_ERROR else logging.INFO
        if not self._logger.isEnabledFor(level):
            return
        service = endpoint.service
        extra: dict[str, Any] = {
            "service": service.name,
            "instance": service.id,
            "endpoint": endpoint.name,
            "subject": endpoint.subject if request is None else printable(request.subject),
            "code": outcome.code,
            "cause": str(outcome.cause or ""),
            "duration": outcome.duration,
            "waited": outcome.waited,
            "request_size": 0 if request is None else request._size,
        }
        text = "%s/%s %d %.1f ms, waited %.1f ms%s"
        description = f": {printable(outcome.description)}" if outcome.description else ""
        milliseconds = outcome.duration * 1000, outcome.waited * 1000
        self._logger.log(
            level, text, service.name, endpoint.name, outcome.code, *milliseconds, description, extra=extra
        )
