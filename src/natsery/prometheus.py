"""Prometheus metrics of a program's own services and clients, in the registry of prometheus_client."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, final

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
    from prometheus_client.metrics_core import GaugeMetricFamily
    from prometheus_client.registry import Collector
except ImportError:
    raise ImportError(
        "natsery.prometheus needs prometheus-client; run: pip install 'natsery[prometheus]'", name="prometheus_client"
    ) from None

from ._bounded_values import OTHER, BoundedValues
from ._errors import shorten
from ._instruments import GOOD, Call, Instrument, Outcome
from ._statistics import FailureCause

if TYPE_CHECKING:
    from ._errors import PublishDeniedError
    from ._service._endpoint import Endpoint
    from ._service._request import Request
    from ._service._service import Service

__all__ = ("Metrics",)

BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the buckets of durations, in seconds."""

MAX_CODES: Final = 50
"""Codes that have a time series of their own, of each endpoint or method; more share one."""

MAX_METHODS: Final = 100
"""Methods of calls that have time series of their own, for a method may be a subject with an id in it; more share theirs."""

_ENDPOINT_LABELS: Final = ("service", "endpoint")
_REFUSED_AFTER_WAITING: Final = (FailureCause.EXPIRED, FailureCause.STOPPING)


@final
class Metrics(Instrument):
    """Counts and times requests and calls for Prometheus, as an instrument of services and clients::

        metrics = natsery.prometheus.Metrics()
        config = natsery.ServiceConfig(..., instruments=[metrics])
        client = natsery.ServiceClient(nc, instruments=[metrics])

    One object serves all services and clients of a program. ``docs/metrics.md`` lists the metrics.

    Args:
        registry: where they are registered; prometheus_client's default one if left out.
        buckets: upper bounds of the buckets of all durations, in seconds, ascending.

    Raises:
        ValueError: the registry has such metrics already, or the buckets are not in order.
        TypeError: ``registry`` is something else.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY, *, buckets: Sequence[float] = BUCKETS) -> None:
        given: object = registry
        if not isinstance(given, CollectorRegistry):
            raise TypeError(f"registry: must be a prometheus_client.CollectorRegistry; got {shorten(given)}")

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def histogram(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(name, text, labels, registry=registry, buckets=buckets)

        self._requests = counter(
            "natsery_requests_total", "Requests that have ended, refused ones included.", *_ENDPOINT_LABELS, "code"
        )
        self._refused = counter(
            "natsery_requests_refused_total",
            "Requests that ended without having reached a handler.",
            *_ENDPOINT_LABELS,
            "cause",
        )
        self._denied = counter(
            "natsery_replies_denied_total",
            "Replies that the server refused after their requests had been counted with code 200.",
            *_ENDPOINT_LABELS,
        )
        self._durations = histogram(
            "natsery_request_duration_seconds", "Time that requests spent in their handler.", *_ENDPOINT_LABELS
        )
        self._waits = histogram(
            "natsery_request_wait_seconds", "Time that requests waited for their handler.", *_ENDPOINT_LABELS
        )
        self._calls = counter("natsery_calls_total", "Calls of clients that have ended.", "method", "code")
        self._call_durations = histogram(
            "natsery_call_duration_seconds", "Time from a call to its reply, or to its last one.", "method"
        )
        self._endpoints: dict[tuple[str, str], _EndpointMetrics] = {}
        self._methods = BoundedValues(MAX_METHODS)
        self._calls_of: dict[str, _CallMetrics] = {}
        self._services: set[Service] = set()
        registry.register(_Gauges(self._services))

    def service_started(self, service: Service) -> None:
        """Read the endpoints of this service at each scrape, and let their counters begin at 0."""
        self._services.add(service)
        for endpoint in service.endpoints:
            self._metrics_of(endpoint)

    def service_ended(self, service: Service) -> None:
        """Read its endpoints no more."""
        self._services.discard(service)

    def request_ended(self, request: Request, outcome: Outcome) -> None:
        """Count a request, and the times that it took."""
        endpoint = self._metrics_of(request.endpoint)
        endpoint.requests[outcome.code].inc()
        endpoint.durations.observe(outcome.duration)
        endpoint.waits.observe(outcome.waited)

    def request_refused(self, endpoint: Endpoint, request: Request | None, outcome: Outcome) -> None:  # noqa: ARG002
        """Count a request that no handler has seen."""
        metrics = self._metrics_of(endpoint)
        metrics.refused[str(outcome.cause)].inc()
        if outcome.cause is not FailureCause.MALFORMED:  # as in the statistics
            metrics.requests[outcome.code].inc()
        if outcome.cause in _REFUSED_AFTER_WAITING:
            metrics.waits.observe(outcome.waited)

    def reply_denied(self, endpoint: Endpoint, error: PublishDeniedError) -> None:  # noqa: ARG002
        """Count a reply that the server has refused."""
        self._metrics_of(endpoint).denied.inc()

    def call_ended(self, call: Call, outcome: Outcome) -> None:
        """Count a call, and the time that it took."""
        method = self._methods[call.method]
        metrics = self._calls_of.get(method)
        if metrics is None:
            metrics = self._calls_of[method] = _CallMetrics(self, method)
        metrics.calls[outcome.code].inc()
        metrics.durations.observe(outcome.duration)

    def _metrics_of(self, endpoint: Endpoint) -> _EndpointMetrics:
        key = (endpoint.service.name, endpoint.name)
        metrics = self._endpoints.get(key)
        if metrics is None:
            metrics = self._endpoints[key] = _EndpointMetrics(self, *key)
        return metrics


@final
class _EndpointMetrics:
    """What is counted of the endpoints of one name, looked up once."""

    def __init__(self, metrics: Metrics, *labels: str) -> None:
        self.requests = _Children(metrics._requests, *labels)
        self.refused = _Children(metrics._refused, *labels)
        self.denied = metrics._denied.labels(*labels)
        self.durations = metrics._durations.labels(*labels)
        self.waits = metrics._waits.labels(*labels)
        self.requests[GOOD]  # so that its series begins at 0


@final
class _CallMetrics:
    """What is counted of the calls of one method, looked up once."""

    def __init__(self, metrics: Metrics, method: str) -> None:
        self.calls = _Children(metrics._calls, method)
        self.durations = metrics._call_durations.labels(method)


class _Children(dict[object, Counter]):
    """The children of a counter, by the last label's value: a code or a cause."""

    def __init__(self, counter: Counter, *labels: str) -> None:
        super().__init__()
        self._counter = counter
        self._labels = labels

    def __missing__(self, value: object) -> Counter:
        if len(self) >= MAX_CODES:
            return self._counter.labels(*self._labels, OTHER)
        child = self[value] = self._counter.labels(*self._labels, str(value))
        return child


@final
class _Gauges(Collector):
    """Reads from the endpoints of running services, at each scrape, what need not be counted."""

    def __init__(self, services: set[Service]) -> None:
        self._services = services

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Give the metrics without a value, for the registry to know their names."""
        yield GaugeMetricFamily(
            "natsery_requests_in_flight", "Requests that handlers have in hand.", labels=_ENDPOINT_LABELS
        )
        yield GaugeMetricFamily(
            "natsery_requests_pending", "Requests that wait or that handlers have in hand.", labels=_ENDPOINT_LABELS
        )

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Give the metrics as they are now. Called in a thread of whoever serves them."""
        figures: dict[tuple[str, str], tuple[int, int]] = {}
        for service in tuple(self._services):
            for endpoint in service.endpoints:
                key = (service.name, endpoint.name)
                in_flight, pending = figures.get(key, (0, 0))
                figures[key] = in_flight + endpoint.in_flight, pending + endpoint.pending
        for position, gauge in enumerate(self.describe()):
            for labels, values in figures.items():
                gauge.add_metric(labels, values[position])
            yield gauge
