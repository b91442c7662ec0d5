"""Sums the statistics of a service's instances."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias, final

import natsery

LARGEST_COUNT: Final = 2**64 - 1
"""The largest counter of any implementation."""

EndpointKey: TypeAlias = "tuple[str, str, str]"
"""Name, subject and queue group; endpoints of several instances are the same one if these are equal."""


@final
@dataclass(frozen=True, kw_only=True)
class EndpointTotals:
    """The sums of an endpoint over all instances that have it.

    Attributes:
        instances: the number of instances that have it.
        processing_time: in nanoseconds.
        average_processing_time: ``processing_time // num_requests``, in nanoseconds; 0 without requests.
        last_error: that of the instance with the most errors here, of the first of them if several have as many; ``""`` if
            there was none. STATS do not tell when an error was, so that the latest of all is unknown.
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
    """The sums of a service over all its instances and endpoints.

    Attributes:
        versions: every version that runs, sorted as text.
        instances: the number of instances that answered.
        endpoints: in the order of the instances' replies.
        processing_time: in nanoseconds.
        average_processing_time: as in `EndpointTotals`.
        last_error: that of the endpoint with the most errors, chosen as in `EndpointTotals`.
        started: the earliest start or reset of an instance, with the year 1 for unknown only if it is unknown for all.
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


def sum_stats(stats: Iterable[natsery.ServiceStats]) -> list[ServiceTotals]:
    """Return the totals of each service, sorted by name.

    Of several replies of an instance the first one counts. Counters outside their range, such as negative ones, count as the
    nearest value inside it.
    """
    services: dict[str, dict[str, natsery.ServiceStats]] = {}
    for each in stats:
        services.setdefault(each.name, {}).setdefault(each.id, each)
    return [_sum_service(name, list(instances.values())) for name, instances in sorted(services.items())]


def clamp_count(value: int) -> int:
    """Return the nearest value in the range of a counter."""
    return min(max(value, 0), LARGEST_COUNT)


def endpoint_key(stats: natsery.EndpointStats) -> EndpointKey:
    """Return the key that an endpoint has in all instances."""
    return stats.name, stats.subject, stats.queue_group


def _sum_service(name: str, instances: list[natsery.ServiceStats]) -> ServiceTotals:
    found: dict[EndpointKey, list[natsery.EndpointStats]] = {}
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


def _sum_endpoint(key: EndpointKey, instances: int, parts: list[natsery.EndpointStats]) -> EndpointTotals:
    name, subject, queue_group = key
    num_requests = sum(clamp_count(each.num_requests) for each in parts)
    processing_time = sum(clamp_count(each.processing_time) for each in parts)
    return EndpointTotals(
        name=name,
        subject=subject,
        queue_group=queue_group,
        instances=instances,
        num_requests=num_requests,
        num_errors=sum(clamp_count(each.num_errors) for each in parts),
        processing_time=processing_time,
        average_processing_time=_average(processing_time, num_requests),
        last_error=_worst_error((each.num_errors, each.last_error) for each in parts),
    )


def _average(processing_time: int, num_requests: int) -> int:
    return processing_time // num_requests if num_requests else 0


def _worst_error(errors: Iterable[tuple[int, str]]) -> str:
    """Return the text with the largest number of errors, ``""`` if there is no text."""
    return max((each for each in errors if each[1]), key=lambda each: each[0], default=(0, ""))[1]
