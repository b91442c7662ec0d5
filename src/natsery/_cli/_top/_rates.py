"""How much services do at the moment, measured from one STATS answer to the next."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, final

from ..._responses import EndpointStats, ServiceStats
from .._discovery._totals import EndpointKey, count_of, endpoint_key, sum_stats
from ._figures import EndpointFigures, History, InstanceFigures, Rates, ServiceFigures

HISTORY: Final = 60
"""Rates that are kept of everything, one a round."""

ROUNDS_UNTIL_GONE: Final = 5
"""Rounds that an instance may miss before it counts as gone."""

InstanceKey: TypeAlias = "tuple[str, str]"
"""The names of a service and of one of its instances."""


@final
@dataclass
class _Endpoint:
    """What an endpoint of an instance said last, and its rates since it said something before."""

    stats: EndpointStats
    rates: Rates | None


@final
class _Instance:
    """What is known of an instance."""

    def __init__(self, stats: ServiceStats, now: float) -> None:
        self.stats = stats
        self.endpoints = [_Endpoint(each, None) for each in stats.endpoints]
        self.missed = 0
        self.has_answered = True
        self._at = now

    @property
    def is_stale(self) -> bool:
        return self.missed > 0

    def rates(self) -> Rates | None:
        return None if self.is_stale else sum_rates(each.rates for each in self.endpoints)

    def take(self, stats: ServiceStats, now: float) -> None:
        self.missed = 0
        self.has_answered = True
        seconds = now - self._at
        if seconds <= 0:
            return  # nothing can be said of no time; the next answer compares with the same one as this
        was_reset = stats.started != self.stats.started
        before = {} if was_reset else dict(_numbered(each.stats for each in self.endpoints))
        self.endpoints = [
            _Endpoint(each, _compare(before[key], each, seconds) if key in before else None)
            for key, each in _numbered(stats.endpoints)
        ]
        self.stats = stats
        self._at = now


@final
class Meter:
    """Takes STATS answers, and tells what services do at the moment.

    Rates are those between two answers of the same instance, each with its own time: neither slow answers nor missed rounds
    distort them. The rates of a service are the sums of those of its instances.
    """

    def __init__(self) -> None:
        self._instances: dict[InstanceKey, _Instance] = {}
        self._histories: dict[tuple[object, ...], deque[float | None]] = {}

    @property
    def expected(self) -> frozenset[InstanceKey]:
        """The instances that answered in the last round."""
        return frozenset(key for key, each in self._instances.items() if not each.is_stale)

    def take(self, stats: ServiceStats, now: float) -> None:
        """Take an answer that came at ``now``, in seconds of a clock that never goes back. A second one in a round is ignored."""
        key = (stats.name, stats.id)
        known = self._instances.get(key)
        if known is None:
            self._instances[key] = _Instance(stats, now)
        elif not known.has_answered:
            known.take(stats, now)

    def end_round(self) -> None:
        """Everybody has had the time to answer: who has not is stale, and gone in the end."""
        for key, instance in list(self._instances.items()):
            if not instance.has_answered:
                instance.missed += 1
                if instance.missed > ROUNDS_UNTIL_GONE:
                    del self._instances[key]
        current = {key: None if rates is None else rates.requests for key, rates in self._all_rates()}
        self._histories = {key: self._histories.get(key, deque(maxlen=HISTORY)) for key in current}
        for what, requests in current.items():
            self._histories[what].append(requests)
        self.drop_round()

    def drop_round(self) -> None:
        """The round did not come to its end: nobody has missed it, and everybody may answer in another one."""
        for instance in self._instances.values():
            instance.has_answered = False

    def figures(self) -> tuple[ServiceFigures, ...]:
        """How things are, sorted by name and instance. In the middle of a round, who has not answered yet is as before."""
        found: list[ServiceFigures] = []
        for totals in sum_stats(each.stats for each in self._instances.values()):
            members = self._members(totals.name)
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
                    num_requests=count_of(each.stats.num_requests),
                    num_errors=count_of(each.stats.num_errors),
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

    def _members(self, name: str) -> list[_Instance]:
        return [each for (service, _), each in sorted(self._instances.items()) if service == name]

    def _all_rates(self) -> Iterable[tuple[tuple[object, ...], Rates | None]]:
        """The rates of everything that has a history."""
        for name in {service for service, _ in self._instances}:
            members = self._members(name)
            yield (name,), sum_rates(each.rates() for each in members)
            for key, rates in _sum_by_key(members).items():
                yield (name, None, *key), rates
            for each in members:
                yield (name, each.stats.id), each.rates()
                for numbered, endpoint in zip(_keys(each.stats.endpoints), each.endpoints, strict=True):
                    yield (name, each.stats.id, *numbered), None if each.is_stale else endpoint.rates

    def _history(self, key: tuple[object, ...], rates: Rates | None, members: Sequence[_Instance]) -> History:
        """Past rates, and the present one if somebody has told it in this round."""
        past = self._histories.get(key, ())
        if not any(each.has_answered for each in members):
            return tuple(past)
        return (*past, None if rates is None else rates.requests)[-HISTORY:]


def _keys(endpoints: Iterable[EndpointStats]) -> list[tuple[str, str, str, int]]:
    """What makes an endpoint the same one in the next answer: two may have all names alike, and then their order counts."""
    seen: dict[EndpointKey, int] = {}
    keys: list[tuple[str, str, str, int]] = []
    for each in endpoints:
        key = endpoint_key(each)
        seen[key] = seen.get(key, 0) + 1
        keys.append((*key, seen[key]))
    return keys


def _numbered(endpoints: Iterable[EndpointStats]) -> list[tuple[tuple[str, str, str, int], EndpointStats]]:
    listed = list(endpoints)
    return list(zip(_keys(listed), listed, strict=True))


def _compare(before: EndpointStats, after: EndpointStats, seconds: float) -> Rates | None:
    """The rates between two answers; ``None`` if a counter went back, for then it has begun anew in between."""
    requests = count_of(after.num_requests) - count_of(before.num_requests)
    errors = count_of(after.num_errors) - count_of(before.num_errors)
    busy = count_of(after.processing_time) - count_of(before.processing_time)
    if min(requests, errors, busy) < 0:
        return None
    return Rates(requests / seconds, errors / seconds, busy / seconds)


def sum_rates(parts: Iterable[Rates | None]) -> Rates | None:
    """The sum of those that are known; ``None`` if none is."""
    known = [each for each in parts if each is not None]
    if not known:
        return None
    return Rates(
        sum(each.requests for each in known), sum(each.errors for each in known), sum(each.busy for each in known)
    )


def _sum_by_key(members: Iterable[_Instance]) -> dict[EndpointKey, Rates | None]:
    """The rates of each endpoint over some instances."""
    parts: dict[EndpointKey, list[Rates | None]] = {}
    for each in members:
        for endpoint in each.endpoints:
            rates = None if each.is_stale else endpoint.rates
            parts.setdefault(endpoint_key(endpoint.stats), []).append(rates)
    return {key: sum_rates(rates) for key, rates in parts.items()}
