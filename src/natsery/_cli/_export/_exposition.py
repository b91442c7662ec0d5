"""Writes metrics as Prometheus reads them; needs the extra ``prometheus`` (prometheus-client)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ._ledger import Instance, Ledger

INSTANCE: Final = ("service", "version", "id")
"""The labels of an instance."""

ENDPOINT: Final = (*INSTANCE, "endpoint", "subject", "queue_group")
"""The labels of an endpoint."""


@final
@dataclass(frozen=True, kw_only=True)
class Scrape:
    """How asking went.

    Attributes:
        seconds: how long it took.
        malformed: replies that could not be read, since the exporter was started.
        dropped: replies that were too many or came too fast, since then.
    """

    seconds: float
    malformed: int
    dropped: int


def write(ledger: Ledger, scrape: Scrape, now: float) -> tuple[str, bytes]:
    """Return the content type and the text of all metrics."""
    registry = CollectorRegistry()
    registry.register(_Collector([*_of_services(ledger.shown(now)), *_of_scrape(ledger, scrape)]))
    encode, content_type = choose_encoder("")
    return content_type, encode(registry)


@final
class _Collector(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _of_services(instances: Iterable[Instance]) -> Iterator[Metric]:
    up = GaugeMetricFamily("nats_service_up", "Whether the instance has answered.", labels=INSTANCE)
    started = GaugeMetricFamily(
        "nats_service_started_timestamp_seconds", "When the instance was started or last reset.", labels=INSTANCE
    )
    requests = CounterMetricFamily("nats_service_requests", "Requests, good and failed together.", labels=ENDPOINT)
    errors = CounterMetricFamily("nats_service_errors", "Requests that failed.", labels=ENDPOINT)
    times = CounterMetricFamily("nats_service_processing_seconds", "Time spent on requests.", labels=ENDPOINT)
    for each in instances:
        labels = (each.name, each.version, each.id)
        up.add_metric(labels, int(each.is_up))
        if each.started.year > 1:
            started.add_metric(labels, each.started.timestamp())
        for key, total in each.totals().items():
            requests.add_metric((*labels, *key), total.requests)
            errors.add_metric((*labels, *key), total.errors)
            times.add_metric((*labels, *key), total.processing_time / 1e9)
    return iter((up, started, requests, errors, times))


def _of_scrape(ledger: Ledger, scrape: Scrape) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "nats_service_scrape_duration_seconds", "How long asking the services took.", value=scrape.seconds
    )
    yield CounterMetricFamily(
        "nats_service_scrape_malformed_replies", "Replies that could not be read.", value=scrape.malformed
    )
    yield CounterMetricFamily(
        "nats_service_scrape_dropped_replies", "Replies that were too many or came too fast.", value=scrape.dropped
    )
    left_out = GaugeMetricFamily(
        "nats_service_scrape_left_out_series",
        "Time series that are not here: beyond the limit, or with a name or a subject that is none.",
        labels=("reason",),
    )
    left_out.add_metric(("limit",), ledger.beyond_limit)
    left_out.add_metric(("name",), ledger.refused)
    yield left_out
