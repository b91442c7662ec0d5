"""The figures of services at one moment, which a `Meter` computes and a screen shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias, final

History: TypeAlias = "tuple[float | None, ...]"
"""Requests per second, the latest last; ``None`` where they are unknown."""


@final
@dataclass(frozen=True)
class Rates:
    """What happened per second between two STATS replies.

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
        """The share of requests that failed, from 0 to 1; ``None`` without requests."""
        return min(self.errors / self.requests, 1.0) if self.requests else None

    @property
    def mean_time(self) -> float | None:
        """The mean time of a request in nanoseconds; ``None`` without requests."""
        return self.busy / self.requests if self.requests else None


@final
@dataclass(frozen=True, kw_only=True)
class EndpointFigures:
    """The figures of an endpoint, of one instance or summed over all.

    Attributes:
        rates: ``None`` before the second reply, and for a round after a reset.
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
    """The figures of an instance of a service.

    Attributes:
        is_stale: whether it missed the last round; its rates are unknown then, and its totals old.
        last_error: that of the endpoint with the most errors.
        started: the time of its start or reset.
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
    """The figures of a service: the sums over its instances.

    Attributes:
        endpoints: each summed over all instances.
        last_error: that of the endpoint with the most errors.
        started: the earliest start or reset of an instance.
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
