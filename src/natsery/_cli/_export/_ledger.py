"""Adds up what instances of services have done, over resets of their statistics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeAlias, final

import natsery

from .._discovery._totals import EndpointKey, clamp_count, endpoint_key

SHOWN_SECONDS: Final = 300.0
"""How long an instance is shown after its last answer."""

MAX_TEXT: Final = 256
"""Characters of a name, an id, a version, a subject or a queue group; what has longer ones is refused."""

SERIES_OF_INSTANCE: Final = 2
"""The time series of an instance besides those of its endpoints."""

SERIES_OF_ENDPOINT: Final = 3
"""The time series of an endpoint."""

InstanceKey: TypeAlias = "tuple[str, str, str]"
"""The name and the version of a service, and the id of one of its instances."""


@final
@dataclass(frozen=True)
class Figures:
    """Counters of an endpoint, the time in nanoseconds."""

    requests: int = 0
    errors: int = 0
    processing_time: int = 0

    def __add__(self, other: Figures) -> Figures:
        return Figures(
            self.requests + other.requests,
            self.errors + other.errors,
            self.processing_time + other.processing_time,
        )

    def since(self, before: Figures) -> Figures:
        """Return what was counted since; a counter that has gone down was reset in between, and has begun at 0."""
        return Figures(
            _increase(before.requests, self.requests),
            _increase(before.errors, self.errors),
            _increase(before.processing_time, self.processing_time),
        )


def _increase(before: int, after: int) -> int:
    return after - before if after >= before else after


@final
@dataclass
class _Endpoint:
    """What an endpoint has said last, and what it has done in all."""

    last: Figures = Figures()
    total: Figures = Figures()


@final
@dataclass
class Instance:
    """An instance that has answered.

    Attributes:
        name: its service's name.
        version: its service's version.
        id: its id.
        started: when it was started or reset, in the year 1 if that is unknown.
        is_up: whether it has answered last time.
    """

    name: str
    version: str
    id: str
    started: datetime
    is_up: bool = True
    _seen: float = 0
    _endpoints: dict[tuple[EndpointKey, int], _Endpoint] = field(default_factory=dict)

    def totals(self) -> dict[EndpointKey, Figures]:
        """Return what its endpoints have done; those that differ in nothing are one."""
        totals: dict[EndpointKey, Figures] = {}
        for (key, _), each in self._endpoints.items():
            totals[key] = totals.get(key, Figures()) + each.total
        return totals

    def _note_start(self, started: datetime) -> None:
        """Begin its counters anew if it was started or reset since the last time, as far as that is known."""
        if started.year <= 1 or started == self.started:
            return
        if self.started.year > 1:
            for endpoint in self._endpoints.values():
                endpoint.last = Figures()
        self.started = started


@final
class Ledger:
    """What instances have done since they were first seen.

    A counter that was reset, or whose instance was started again under the same id, goes on from what it was. An instance
    that does not answer any more is shown for a while. It is forgotten when its room is needed, and goes on if it comes back
    before.

    Args:
        max_series: how many time series there are at most: two for each instance, and three for each endpoint.

    Attributes:
        beyond_limit: time series that were left out last time because there would have been too many.
        refused: time series that were left out last time because of texts that are no names, ids or subjects.
    """

    def __init__(self, max_series: int) -> None:
        self.beyond_limit: int = 0
        self.refused: int = 0
        self._max_series = max_series
        self._series = 0
        self._instances: dict[InstanceKey, Instance] = {}
        """Those that answered last at the end."""

    def add(self, replies: Iterable[natsery.ServiceStats], now: float) -> None:
        """Add the replies to one request for STATS, received until ``now``, in seconds of a monotonic clock."""
        self.beyond_limit = self.refused = 0
        for known in self._instances.values():
            known.is_up = False
        for stats in replies:
            instance = self._instance_of(stats, now)
            if instance is None:
                continue
            instance._note_start(stats.started)
            numbers: Counter[EndpointKey] = Counter()
            for each in stats.endpoints:
                key = endpoint_key(each)
                self._count(instance, key, numbers[key], each, now)
                numbers[key] += 1

    def shown(self, now: float) -> list[Instance]:
        """Return the instances that have answered in the last few minutes, sorted."""
        return [each for _, each in sorted(self._instances.items()) if now - each._seen <= SHOWN_SECONDS]

    def _instance_of(self, stats: natsery.ServiceStats, now: float) -> Instance | None:
        key = (stats.name, stats.version, stats.id)
        instance = self._instances.pop(key, None)
        if instance is None:
            if not (_is_name(stats.name, stats.id) and _are_texts(*key)):
                self.refused += SERIES_OF_INSTANCE + SERIES_OF_ENDPOINT * len(stats.endpoints)
                return None
            if not self._make_room(SERIES_OF_INSTANCE, now):
                self.beyond_limit += SERIES_OF_INSTANCE + SERIES_OF_ENDPOINT * len(stats.endpoints)
                return None
            instance = Instance(stats.name, stats.version, stats.id, stats.started)
        instance.is_up = True
        instance._seen = now
        self._instances[key] = instance
        return instance

    def _count(
        self, instance: Instance, key: EndpointKey, number: int, stats: natsery.EndpointStats, now: float
    ) -> None:
        """Count what an endpoint has done, the one of this ``number`` among those of the same key."""
        endpoint = instance._endpoints.get((key, number))
        if endpoint is None:
            if not (_is_name(stats.name) and _are_texts(*key)):
                self.refused += SERIES_OF_ENDPOINT
                return
            if not self._make_room(SERIES_OF_ENDPOINT, now):
                self.beyond_limit += SERIES_OF_ENDPOINT
                return
            endpoint = instance._endpoints[key, number] = _Endpoint()
        figures = Figures(*map(clamp_count, (stats.num_requests, stats.num_errors, stats.processing_time)))
        endpoint.total += figures.since(endpoint.last)
        endpoint.last = figures

    def _make_room(self, series: int, now: float) -> bool:
        """Take room for time series, if need be that of instances that are not shown any more; false if there is none."""
        while self._series + series > self._max_series:
            key, oldest = next(iter(self._instances.items()), (None, None))
            if key is None or oldest is None or now - oldest._seen <= SHOWN_SECONDS:
                return False
            del self._instances[key]
            self._series -= SERIES_OF_INSTANCE + SERIES_OF_ENDPOINT * len(oldest._endpoints)
        self._series += series
        return True


def _is_name(name: str, instance_id: str | None = None) -> bool:
    """Whether ADR-32 allows the name of a service or an endpoint, and an id."""
    try:
        natsery.control_subject(natsery.Verb.STATS, name, instance_id)
    except ValueError:
        return False
    return True


def _are_texts(*texts: str) -> bool:
    return all(len(text) <= MAX_TEXT and text.isprintable() for text in texts)
