"""What services do at a moment, as values: what a meter tells and a screen shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias, final

History: TypeAlias = "tuple[float | None, ...]"
"""Requests per second, the latest last; ``None`` where they are not known."""


@final
@dataclass(frozen=True)
class Rates:
    """What happened between two answers, per second.

    Attributes:
        requests: requests whose handling ended.
        errors: those that failed.
        busy: nanoseconds spent in handlers.
    """

    requests: float
    errors: float
    busy: float

    @property
    def error_share(self) -> float | None:
        """The part of the requests that failed, from 0 to 1; ``None`` if there were none."""
        return min(self.errors / self.requests, 1.0) if self.requests else None

    @property
    def mean_time(self) -> float | None:
        """Nanoseconds that a request took; ``None`` if there were none."""
        return self.busy / self.requests if self.requests else None


@final
@dataclass(frozen=True, kw_only=True)
class EndpointFigures:
    """An endpoint, of one instance or of all instances of a service together.

    Attributes:
        rates: ``None`` as long as there is nothing to compare with, and for a round after a reset.
    """

    name: str
    subject: str
    queue_group: str
    num_requests: int
    num_errors: int
    last_error: str
    rates: Rates | None
    history: History


@final
@dataclass(frozen=True, kw_only=True)
class InstanceFigures:
    """An instance of a service.

    Attributes:
        is_stale: it did not answer in the last round; its rates are unknown, its totals are those that it told last.
        last_error: of the endpoint with the most errors.
        started: when it started or was reset.
    """

    id: str
    version: str
    metadata: Mapping[str, str]
    started: datetime
    is_stale: bool
    endpoints: tuple[EndpointFigures, ...]
    num_requests: int
    num_errors: int
    last_error: str
    rates: Rates | None
    history: History


@final
@dataclass(frozen=True, kw_only=True)
class ServiceFigures:
    """A service: the sums over its instances.

    Attributes:
        endpoints: each over all instances.
        last_error: of the endpoint with the most errors.
        started: the earliest among the instances.
    """

    name: str
    versions: tuple[str, ...]
    started: datetime
    instances: tuple[InstanceFigures, ...]
    endpoints: tuple[EndpointFigures, ...]
    num_requests: int
    num_errors: int
    last_error: str
    rates: Rates | None
    history: History
