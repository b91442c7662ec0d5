"""Computes the rates of services from one STATS reply to the next."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Final, TypeAlias, final

import natsery

from .._discovery._totals import EndpointKey, clamp_count, endpoint_key, sum_stats
from ._figures import EndpointFigures, History, InstanceFigures, Rates, ServiceFigures

HISTORY: Final = 60
"""The number of past rates that are kept, one per round."""

ROUNDS_UNTIL_GONE: Final = 5
"""The number of rounds that an instance may miss before it is removed."""

MAX_INSTANCES: Final = 65_536
"""The number of instances that are kept; further ones are ignored."""

MAX_BYTES: Final = 64 * 1024 * 1024
"""The same in bytes of their replies."""

InstanceKey: TypeAlias = "tuple[str, str]"
"""The name of a service, and the id of one of its instances."""


@final
@dataclass
class _Endpoint:
    """The last statistics of an instance's endpoint, and its rates since those before."""

    stats: natsery.EndpointStats
    rates: Rates | None


@final
class _Instance:
    """The last statistics of an instance."""

    def __init__(self, stats: natsery.ServiceStats, now: float) -> None:
        self.stats = stats
        self.endpoints = [_Endpoint(each, None) for each in stats.endpoints]
        self.missed = 0
        self.has_answered = True
        self._time = now

    @property
    def is_stale(self) -> bool:
        return self.missed > 0

    def rates(self) -> Rates | None:
        return None if self.is_stale else sum_rates(each.rates for each in self.endpoints)

    def add(self, stats: natsery.ServiceStats, now: float) -> None:
        self.missed = 0
        self.has_answered = True
        seconds = now - self._time
        if seconds <= 0:
            return  # no rate without time in between; the next reply is compared with the one before this
        was_reset = stats.started != self.stats.started
        before = {} if was_reset else dict(_numbered(each.stats for each in self.endpoints))
        self.endpoints = [
            _Endpoint(each, _compare(before[key], each, seconds) if key in before else None)
            for key, each in _numbered(stats.endpoints)
        ]
        self.stats = stats
        self._time = now


@final
class Meter:
    """Computes the current figures of services from their STATS replies.

    Rates are those between two replies of the same instance, over the time between them, so that neither slow replies nor
    missed rounds distort them. The rates of a service are the sums of those of its instances.
    """

    def __init__(self) -> None:
        self._instances: dict[InstanceKey, _Instance] = {}
        self._histories: dict[tuple[object, ...], deque[float | None]] = {}
        self._bytes = 0

    @property
    def expected(self) -> frozenset[InstanceKey]:
        """The instances that answered in the last round."""
        return frozenset(key for key, each in self._instances.items() if not each.is_stale)

    def add(self, stats: natsery.ServiceStats, now: float) -> None:
        """Add a reply that arrived at ``now``, in seconds of a monotonic clock. A second one in a round is ignored."""
        key = (stats.name, stats.id)
        known = self._instances.get(key)
        if known is not None and known.has_answered:
            return
        size = self._bytes + len(stats.raw) - (0 if known is None else len(known.stats.raw))
        if size > MAX_BYTES or (known is None and len(self._instances) >= MAX_INSTANCES):
            return
        self._bytes = size
        if known is None:
            self._instances[key] = _Instance(stats, now)
        else:
            known.add(stats, now)

    def end_round(self) -> None:
        """End a round: instances that have not answered are stale, and removed after several rounds."""
        for key, instance in list(self._instances.items()):
            if not instance.has_answered:
                instance.missed += 1
                if instance.missed > ROUNDS_UNTIL_GONE:
                    del self._instances[key]
        self._bytes = sum(len(each.stats.raw) for each in self._instances.values())
        current = {key: None if rates is None else rates.requests for key, rates in self._all_rates()}
        self._histories = {key: self._histories.get(key, deque(maxlen=HISTORY)) for key in current}
        for what, requests in current.items():
            self._histories[what].append(requests)
        self.drop_round()

    def drop_round(self) -> None:
        """End a round that does not count: no instance has missed it."""
        for instance in self._instances.values():
            instance.has_answered = False

    def figures(self) -> tuple[ServiceFigures, ...]:
        """Return the figures, sorted by name and instance: the last ones of instances that have yet to answer in this round."""
        found: list[ServiceFigures] = []
        services = self._by_service()
        for totals in sum_stats(each.stats for each in self._instances.values()):
            members = services[totals.name]
            summed = _sum_by_key(members)
            found.append(
                ServiceFigures(
                    name=totals.name,
                    versions=totals.versions,
                    started=totals.started,
                    instances=tuple(self._instance_figures(each) for each in members),
                    endpoints=tuple(
                        EndpointFigures(
                            name=each.name,
                            subject=each.subject,
                            queue_group=each.queue_group,
                            num_requests=each.num_requests,
                            num_errors=each.num_errors,
                            last_error=each.last_error,
                            rates=(rates := summed[each.name, each.subject, each.queue_group]),
                            history=self._history(
                                (totals.name, None, each.name, each.subject, each.queue_group), rates, members
                            ),
                        )
                        for each in totals.endpoints
                    ),
                    num_requests=totals.num_requests,
                    num_errors=totals.num_errors,
                    last_error=totals.last_error,
                    rates=(rates := sum_rates(each.rates() for each in members)),
                    history=self._history((totals.name,), rates, members),
                )
            )
        return tuple(found)

    def _instance_figures(self, instance: _Instance) -> InstanceFigures:
        stats = instance.stats
        (totals,) = sum_stats([stats])
        return InstanceFigures(
            id=stats.id,
            version=stats.version,
            metadata=stats.metadata,
            started=stats.started,
            is_stale=instance.is_stale,
            endpoints=tuple(
                EndpointFigures(
                    name=each.stats.name,
                    subject=each.stats.subject,
                    queue_group=each.stats.queue_group,
                    num_requests=clamp_count(each.stats.num_requests),
                    num_errors=clamp_count(each.stats.num_errors),
                    last_error=each.stats.last_error,
                    rates=None if instance.is_stale else each.rates,
                    history=self._history((stats.name, stats.id, *key), each.rates, [instance]),
                )
                for key, each in zip(_keys(stats.endpoints), instance.endpoints, strict=True)
            ),
            num_requests=totals.num_requests,
            num_errors=totals.num_errors,
            last_error=totals.last_error,
            rates=(rates := instance.rates()),
            history=self._history((stats.name, stats.id), rates, [instance]),
        )

    def _by_service(self) -> dict[str, list[_Instance]]:
        """Return the instances of each service, sorted by their ids."""
        services: dict[str, list[_Instance]] = {}
        for (name, _), each in sorted(self._instances.items(), key=itemgetter(0)):
            services.setdefault(name, []).append(each)
        return services

    def _all_rates(self) -> Iterable[tuple[tuple[object, ...], Rates | None]]:
        """Yield the key and the rates of everything that has a history."""
        for name, members in self._by_service().items():
            yield (name,), sum_rates(each.rates() for each in members)
            for key, rates in _sum_by_key(members).items():
                yield (name, None, *key), rates
            for each in members:
                yield (name, each.stats.id), each.rates()
                for numbered, endpoint in zip(_keys(each.stats.endpoints), each.endpoints, strict=True):
                    yield (name, each.stats.id, *numbered), None if each.is_stale else endpoint.rates

    def _history(self, key: tuple[object, ...], rates: Rates | None, members: Sequence[_Instance]) -> History:
        """Return past rates, and the current one if any of the instances has answered in this round."""
        past = self._histories.get(key, ())
        if not any(each.has_answered for each in members):
            return tuple(past)
        return (*past, None if rates is None else rates.requests)[-HISTORY:]


def _keys(endpoints: Iterable[natsery.EndpointStats]) -> list[tuple[str, str, str, int]]:
    """Return a key for each endpoint, with a number because several may have equal names."""
    seen: dict[EndpointKey, int] = {}
    keys: list[tuple[str, str, str, int]] = []
    for each in endpoints:
        key = endpoint_key(each)
        seen[key] = seen.get(key, 0) + 1
        keys.append((*key, seen[key]))
    return keys


def _numbered(
    endpoints: Iterable[natsery.EndpointStats],
) -> list[tuple[tuple[str, str, str, int], natsery.EndpointStats]]:
    listed = list(endpoints)
    return list(zip(_keys(listed), listed, strict=True))


def _compare(before: natsery.EndpointStats, after: natsery.EndpointStats, seconds: float) -> Rates | None:
    """Return the rates between two replies; ``None`` if a counter went back, because it was reset in between."""
    requests = clamp_count(after.num_requests) - clamp_count(before.num_requests)
    errors = clamp_count(after.num_errors) - clamp_count(before.num_errors)
    busy = clamp_count(after.processing_time) - clamp_count(before.processing_time)
    if min(requests, errors, busy) < 0:
        return None
    return Rates(requests / seconds, errors / seconds, busy / seconds)


def sum_rates(parts: Iterable[Rates | None]) -> Rates | None:
    """Return the sum of the rates that are known; ``None`` if none is."""
    known = [each for each in parts if each is not None]
    if not known:
        return None
    return Rates(
        sum(each.requests for each in known), sum(each.errors for each in known), sum(each.busy for each in known)
    )


def _sum_by_key(members: Iterable[_Instance]) -> dict[EndpointKey, Rates | None]:
    """Return the rates of each endpoint, summed over the instances."""
    parts: dict[EndpointKey, list[Rates | None]] = {}
    for each in members:
        for endpoint in each.endpoints:
            rates = None if each.is_stale else endpoint.rates
            parts.setdefault(endpoint_key(endpoint.stats), []).append(rates)
    return {key: sum_rates(rates) for key, rates in parts.items()}
