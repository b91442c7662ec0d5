"""The same echo service with one optional feature each, which `features.py` measures; the plain one is for `natsery run`."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import natsery

SUBJECT = "bench.workers"
BODY = '{"item":"tea","count":3}'
"""What every one of them takes and answers."""

NONE = "none"

LONG = 60.0


async def echo(request: natsery.Request) -> bytes:
    return request.data


async def pass_on(request: natsery.Request, handler: natsery.Handler) -> bytes | None:
    """A middleware that does nothing."""
    return await handler(request)


class Look(natsery.Instrument):
    """An instrument that does nothing."""

    def request_ended(self, request: natsery.Request, outcome: natsery.Outcome) -> None:
        pass


def plain(subject: str, **options: Any) -> natsery.ServiceConfig:
    """With options of the service."""
    return natsery.ServiceConfig(
        "echo", "1.0.0", endpoints=[natsery.EndpointConfig("echo", echo, subject=subject)], **options
    )


def with_endpoint(**options: Any) -> Callable[[str], natsery.ServiceConfig]:
    """With options of the endpoint."""

    def configure(subject: str) -> natsery.ServiceConfig:
        endpoint = natsery.EndpointConfig("echo", echo, subject=subject, **options)
        return natsery.ServiceConfig("echo", "1.0.0", endpoints=[endpoint])

    return configure


def limited(subject: str) -> natsery.ServiceConfig:
    import anyio

    return with_endpoint(limiter=anyio.CapacityLimiter(8))(subject)


def in_thread(subject: str) -> natsery.ServiceConfig:
    def echo_in_thread(request: natsery.Request) -> bytes:
        return request.data

    endpoint = natsery.EndpointConfig("echo", echo_in_thread, subject=subject, in_thread=True)
    return natsery.ServiceConfig("echo", "1.0.0", endpoints=[endpoint])


def typed(body_type: type, subject: str, **options: Any) -> natsery.ServiceConfig:
    """With a body that is read as that type, and written from it."""

    async def echo_typed(body):
        return body

    echo_typed.__annotations__ = {"body": body_type, "return": body_type}
    endpoint = natsery.EndpointConfig("echo", echo_typed, subject=subject)
    return natsery.ServiceConfig("echo", "1.0.0", endpoints=[endpoint], **options)


@dataclass
class Order:
    """What customers order."""

    item: str
    count: int


def with_dataclass(subject: str) -> natsery.ServiceConfig:
    return typed(Order, subject)


def with_schemas(subject: str) -> natsery.ServiceConfig:
    return typed(Order, subject, schemas=True)


def with_msgspec(subject: str) -> natsery.ServiceConfig:
    import msgspec

    return typed(msgspec.defstruct("Order", [("item", str), ("count", int)]), subject)


def with_pydantic(subject: str) -> natsery.ServiceConfig:
    import pydantic

    return typed(pydantic.create_model("Order", item=(str, ...), count=(int, ...)), subject)


def with_access_log(subject: str) -> natsery.ServiceConfig:
    """Lines with the time, which go nowhere."""
    logger = logging.getLogger("natsery.access")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    handler = logging.FileHandler(os.devnull)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    return plain(subject, instruments=[natsery.AccessLog()])


def with_prometheus(subject: str) -> natsery.ServiceConfig:
    import natsery.prometheus

    return plain(subject, instruments=[natsery.prometheus.Metrics()])


def with_traces(subject: str) -> natsery.ServiceConfig:
    """Every span is recorded, and exported in batches to nowhere."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    import natsery.otel

    class Nowhere(SpanExporter):
        def export(self, _: Any) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    return plain(subject, instruments=[natsery.otel.Tracing(provider)])


def with_otel_metrics(subject: str) -> natsery.ServiceConfig:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    import natsery.otel

    return plain(subject, instruments=[natsery.otel.Metrics(MeterProvider([InMemoryMetricReader()]))])


FEATURES: dict[str, Callable[[str], natsery.ServiceConfig]] = {
    NONE: plain,
    "concurrency=8": with_endpoint(concurrency=8),
    "limiter": limited,
    "timeout": with_endpoint(timeout=LONG),
    "pending_seconds": with_endpoint(pending_seconds=LONG),
    "middleware": with_endpoint(middlewares=[pass_on]),
    "in_thread": in_thread,
    "typed body, dataclass": with_dataclass,
    "typed body, msgspec": with_msgspec,
    "typed body, pydantic": with_pydantic,
    "typed body, dataclass, with schemas": with_schemas,
    "stats_details": lambda subject: plain(subject, stats_details=True),
    "instrument": lambda subject: plain(subject, instruments=[Look()]),
    "access log": with_access_log,
    "Prometheus": with_prometheus,
    "OpenTelemetry, traces": with_traces,
    "OpenTelemetry, metrics": with_otel_metrics,
}

config = plain(SUBJECT)
