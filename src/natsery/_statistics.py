"""The accounting of requests: counters that change together, once for each request, and the clock that times them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple, final

from ._core import CounterFields
from ._responses import EndpointStats


@final
class FailureCause(StrEnum):
    """Why a request counts as failed."""

    SERVICE_ERROR = "service_error"
    """The handler raised ``ServiceError`` or sent an error reply."""

    EXCEPTION = "exception"
    """The handler raised anything else."""

    INVALID_BODY = "invalid_body"
    """The body did not fit the type that the handler takes (400)."""

    TIMEOUT = "timeout"
    """The endpoint's deadline passed (504)."""

    EXPIRED = "expired"
    """It was not handled, because its deadline passed while it waited (504)."""

    OVERLOADED = "overloaded"
    """The endpoint's queue was full (503)."""

    REQUESTER_GONE = "requester_gone"
    """Its requester has left a streamed reply without a word, and acknowledges no more (408)."""

    STOPPING = "stopping"
    """It was cut off by shutdown (503)."""

    UNDELIVERABLE = "undeliverable"
    """Its reply, or error reply, could not be sent: no reply subject, the connection gone, too large, or publishing denied."""

    MALFORMED = "malformed"
    """It was dropped, because its reply subject may not be answered; it counts as ``malformed``, not among the requests."""


@final
class Failure(NamedTuple):
    """Why a request failed, and the error code and description that say so."""

    cause: FailureCause
    code: int
    description: str


LAST_ERROR_LENGTH = 1024
"""Characters of a description that ``last_error`` keeps, so that STATS stays small."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


@final
@dataclass(frozen=True, kw_only=True)
class Clock:
    """The clock of a service; tests can give another one.

    Attributes:
        now: the time of day, with its time zone: the ``started`` of STATS.
        monotonic_ns: nanoseconds since any fixed moment, never going back: processing times.
    """

    now: Callable[[], datetime] = _utc_now
    monotonic_ns: Callable[[], int] = time.perf_counter_ns


@final
class Counters(CounterFields):
    """The counters of one endpoint."""

    __slots__ = ("failures", "last_error", "malformed", "num_errors")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Set everything to zero; a request under way is counted whole when it ends."""
        self.num_requests = 0
        self.num_errors: int = 0
        self.last_error: str = ""
        self.processing_time = 0
        self.malformed: int = 0
        self.failures: dict[FailureCause, int] = {}

    def count_good(self, elapsed_ns: int) -> None:
        """Count a request that was handled well."""
        self.num_requests += 1
        self.processing_time += elapsed_ns

    def count_failure(self, failure: Failure, elapsed_ns: int = 0) -> None:
        """Count a request that failed."""
        self.num_requests += 1
        self.processing_time += elapsed_ns
        self._count_error(failure)

    def turn_into_failure(self, failure: Failure) -> None:
        """Count a request as failed that was counted as good."""
        if self.num_errors < self.num_requests:  # else a reset has come between
            self._count_error(failure)

    def _count_error(self, failure: Failure) -> None:
        cause, code, description = failure
        self.num_errors += 1
        description = description.encode(errors="replace").decode()  # STATS must stay writable as UTF-8
        self.last_error = f"{code}:{description[:LAST_ERROR_LENGTH]}"
        self.failures[cause] = self.failures.get(cause, 0) + 1

    def figures(self, name: str, subject: str, queue_group: str, data: Any = None) -> dict[str, Any]:
        """Return the endpoint's JSON object in STATS: that of `snapshot`, without the cost of a frozen copy."""
        requests, time_ns = self.num_requests, self.processing_time
        figures: dict[str, Any] = {
            "name": name,
            "subject": subject,
            "queue_group": queue_group,
            "num_requests": requests,
            "num_errors": self.num_errors,
            "last_error": self.last_error,
            "processing_time": time_ns,
            "average_processing_time": time_ns // requests if requests else 0,
        }
        if data is not None:
            figures["data"] = data
        return figures

    def snapshot(self, name: str, subject: str, queue_group: str, data: Any = None) -> EndpointStats:
        """Return a frozen copy, as STATS shows it."""
        return EndpointStats(
            **self.figures(name, subject, queue_group, data),
            failures=MappingProxyType({str(cause): count for cause, count in self.failures.items()}),
            malformed=self.malformed,
        )
