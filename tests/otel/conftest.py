"""The real SDK with its exporters in memory, on every backend, in memory and through a server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

import natsery
from natsery import otel
from natsery.abc import Connection
from natsery.testing import MemoryBroker

from ..server import NatsServer


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=["memory", "native"])
async def nc(request: pytest.FixtureRequest, nats_server: NatsServer) -> AsyncIterator[Connection]:
    if request.param == "native":
        async with natsery.connect(nats_server.url) as nc:
            yield nc
    else:
        async with MemoryBroker() as broker, broker.connect() as nc:
            yield nc


class Traces:
    """An SDK with its exporter, and the instrument that makes its spans."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("test")
        self.tracing = otel.Tracing(self.provider)

    @property
    def spans(self) -> list[ReadableSpan]:
        return sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def of(self, kind: SpanKind) -> list[ReadableSpan]:
        return [span for span in self.spans if span.kind is kind]

    def named(self, name: str, kind: SpanKind) -> ReadableSpan:
        (span,) = [span for span in self.of(kind) if span.name == name]
        return span


@pytest.fixture
def traces() -> Traces:
    return Traces()


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.span_id


def parent_of(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id
