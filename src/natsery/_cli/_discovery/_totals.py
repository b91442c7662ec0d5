"""What the instances of each service have done together: the sums of their STATS."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias, final

from ..._responses import EndpointStats, ServiceStats

LARGEST_COUNT: Final = 2**64 - 1
"""The largest counter that any implementation can have meant."""

EndpointKey: TypeAlias = "tuple[str, str, str]"
"""Name, subject and queue group: what makes the endpoints of several instances the same one."""


@final
@dataclass(frozen=True, kw_only=True)
class EndpointTotals:
    """An endpoint of a service, over all instances that have it.

    Attributes:
        instances: how many have it.
        processing_time: in nanoseconds.
        average_processing_time: ``processing_time // num_requests``, in nanoseconds, 0 for none: every request weighs the
            same, not every instance.
        last_error: that of the instance with the most errors here, the first of them if several have as many. STATS do not
            tell when an error was, so the latest of all cannot be found. ``""`` if there was none.
    """

    name: str
    subject: str
    queue_group: str
    instances: int
    num_requests: int
    num_errors: int
    processing_time: int
    average_processing_time: int
    last_error: str


@final
@dataclass(frozen=True, kw_only=True)
class ServiceTotals:
    """A service, over all its instances and endpoints.

    Attributes:
        versions: every version that runs, sorted as text.
        instances: how many answered.
        endpoints: in the order in which the instances tell of them.
        processing_time: in nanoseconds.
        average_processing_time: as that of `EndpointTotals`.
        last_error: that of the endpoint with the most errors, chosen as in `EndpointTotals`.
        started: the earliest start or reset among the instances; one in year 1 only if none told a better one.
    """

    name: str
    versions: tuple[str, ...]
    instances: int
    endpoints: tuple[EndpointTotals, ...]
    num_requests: int
    num_errors: int
    processing_time: int
    average_processing_time: int
    last_error: str
    started: datetime


def sum_stats(stats: Iterable[ServiceStats]) -> list[ServiceTotals]:
    """The totals of each service, sorted by name.

    An instance that occurs again is counted once, with what it said first. Counters that cannot be meant, negative ones for
    example, count as the nearest that can.
    """
    services: dict[str, dict[str, ServiceStats]] = {}
    for each in stats:
        services.setdefault(each.name, {}).setdefault(each.id, each)
    return [_sum_service(name, list(instances.values())) for name, instances in sorted(services.items())]


def count_of(value: int) -> int:
    """A counter as its author can have meant it."""
    return min(max(value, 0), LARGEST_COUNT)


def endpoint_key(stats: EndpointStats) -> EndpointKey:
    """What makes an endpoint the same one in several instances."""
    return stats.name, stats.subject, stats.queue_group


def _sum_service(name: str, instances: list[ServiceStats]) -> ServiceTotals:
    found: dict[EndpointKey, list[EndpointStats]] = {}
    having: dict[EndpointKey, int] = {}
    for instance in instances:
        for stats in instance.endpoints:
            found.setdefault(endpoint_key(stats), []).append(stats)
        for key in {endpoint_key(stats) for stats in instance.endpoints}:
            having[key] = having.get(key, 0) + 1
    endpoints = tuple(_sum_endpoint(key, having[key], parts) for key, parts in found.items())
    num_requests = sum(each.num_requests for each in endpoints)
    processing_time = sum(each.processing_time for each in endpoints)
    return ServiceTotals(
        name=name,
        versions=tuple(sorted({each.version for each in instances})),
        instances=len(instances),
        endpoints=endpoints,
        num_requests=num_requests,
        num_errors=sum(each.num_errors for each in endpoints),
        processing_time=processing_time,
        average_processing_time=_average(processing_time, num_requests),
        last_error=_worst_error((each.num_errors, each.last_error) for each in endpoints),
        started=min((each.started for each in instances), key=lambda moment: (moment.year <= 1, moment)),
    )


def _sum_endpoint(key: EndpointKey, instances: int, parts: list[EndpointStats]) -> EndpointTotals:
    name, subject, queue_group = key
    num_requests = sum(count_of(each.num_requests) for each in parts)
    processing_time = sum(count_of(each.processing_time) for each in parts)
    return EndpointTotals(
        name=name,
        subject=subject,
        queue_group=queue_group,
        instances=instances,
        num_requests=num_requests,
        num_errors=sum(count_of(each.num_errors) for each in parts),
        processing_time=processing_time,
        average_processing_time=_average(processing_time, num_requests),
        last_error=_worst_error((each.num_errors, each.last_error) for each in parts),
    )


def _average(processing_time: int, num_requests: int) -> int:
    return processing_time // num_requests if num_requests else 0


def _worst_error(errors: Iterable[tuple[int, str]]) -> str:
    """The text that goes with the largest number of errors, among those that have one."""
    return max((each for each in errors if each[1]), key=lambda each: each[0], default=(0, ""))[1]
