"""What peers, exceptions and providers do wrong costs neither the request nor the spans of others."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider
from opentelemetry.trace import SpanKind

import natsery
from natsery import Headers, Message, otel
from natsery.abc import Connection

from ..bounds import bounded
from ..calc_service import config
from ..server import NatsServer
from .conftest import Traces

pytestmark = pytest.mark.anyio

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def echo(request: natsery.Request) -> bytes:
    return request.data


@pytest.mark.parametrize(
    "headers",
    [
        [("baggage", "a=\udcff")],  # on which OpenTelemetry's propagator fails
        [("baggage", "a=\x1b[31mred")],
        [("baggage", "a=b," * 5_000)],
        [("baggage", "\n=x")],
        [("baggage", "")],
        [("traceparent", "\x1b" * 600)],
        [("traceparent", "é" * 55)],
        [("traceparent", "")],
        [("traceparent", "00-" + "0" * 32 + "-b7ad6b7169203331-01")],
        [("traceparent", "ff-" + "1" * 32 + "-b7ad6b7169203331-01")],
        [("traceparent", "x" * 1_000_000)],
        [("tracestate", "a=1")],
    ],
)
async def test_headers_that_are_no_context_are_none(
    headers: list[tuple[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    """Propagators log what they do not understand as it came, and one message must not switch tracing off."""
    found = otel.context_of(Message("a", headers=Headers.from_wire(headers)))
    assert found == {}
    assert "\x1b" not in caplog.text


@pytest.mark.parametrize("state", ["=,,=;;\x01", "é=1", "\x1b[31m", "a=1," * 4_000])
async def test_a_state_that_is_none_is_left_out(state: str, caplog: pytest.LogCaptureFixture) -> None:
    message = Message("a", headers=Headers.from_wire([("traceparent", PARENT), ("tracestate", state)]))
    parent = trace.get_current_span(otel.context_of(message)).get_span_context()
    assert (f"{parent.span_id:x}", dict(parent.trace_state)) == ("b7ad6b7169203331", {})
    assert caplog.records == []


async def test_a_state_in_several_headers_is_read_whole() -> None:
    pairs = [("Traceparent", PARENT), ("tracestate", "a=1,\tb=2"), ("Tracestate", "c=3")]
    parent = trace.get_current_span(otel.context_of(Message("a", headers=Headers.from_wire(pairs)))).get_span_context()
    assert dict(parent.trace_state) == {"a": "1", "b": "2", "c": "3"}


async def test_a_context_that_cannot_travel_is_left_out(nc: Connection) -> None:
    """A header that is refused would have the call fail."""
    pairs: list[tuple[str, str]] = []
    otel._PAIRS.set(pairs, "a b", "x")
    otel._PAIRS.set(pairs, "a", "é")
    otel._PAIRS.set(pairs, "a", "x\r\ny: z")
    assert pairs == []
    token = context.attach(baggage.set_baggage("ключ", "значение\r\n"))
    try:
        async with nc.subscribe("events") as events:
            await nc.publish("events", headers=otel.headers_with_context())
            assert baggage.get_baggage("ключ", otel.context_of(await events.receive())) == "значение"
    finally:
        context.detach(token)


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


async def test_an_exception_without_a_text_leaves_the_tracing_on(
    nc: Connection, traces: Traces, caplog: pytest.LogCaptureFixture
) -> None:
    async def unprintable(request: natsery.Request) -> bytes:
        raise Unprintable

    async def numbers(request: natsery.Request) -> AsyncIterator[bytes]:
        yield b"1"

    client = natsery.ServiceClient(nc, instruments=[traces.tracing])
    async with bounded(), natsery.serve(nc, config(unprintable, numbers, instruments=[traces.tracing])):
        for _ in range(2):
            with pytest.raises(natsery.ServiceError, match="500"):
                await client.request("unprintable")
        with pytest.raises(Unprintable):
            async with client.stream("numbers"):
                raise Unprintable
        await nc.flush()
    spans = [span for span in traces.of(SpanKind.SERVER) if span.name == "calc/unprintable"]
    assert [span.status.description for span in spans] == ["Internal Server Error"] * 2
    assert [span.status.description for span in traces.of(SpanKind.CLIENT)][2:] == ["Internal Server Error"]
    assert "told nothing more" not in caplog.text
    assert traces.tracing._spans == {}
    caplog.clear()


async def test_the_description_of_a_peer_is_cut_and_escaped(nc: Connection, traces: Traces) -> None:
    async with bounded(), nc.subscribe("liar") as requests:
        client = natsery.ServiceClient(nc, instruments=[traces.tracing])

        async def lie() -> None:
            request = await requests.receive()
            headers = [("Nats-Service-Error-Code", "500"), ("Nats-Service-Error", "\x1b[31m" + "x" * 100_000)]
            await nc.publish(request.reply, headers=headers)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lie)
            with pytest.raises(natsery.ServiceError):
                await client.request("liar")
    (call,) = traces.spans
    assert call.status.description == "\\x1b[31m" + "x" * (otel.MAX_DESCRIPTION - 5)


@pytest.mark.parametrize("side", ["start", "end"])
async def test_a_provider_that_raises_costs_no_request_and_no_memory(
    nc: Connection, side: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A program may make a client for each call: what one of them leaves behind adds up."""

    class Broken(SpanProcessor):
        def on_start(self, span: Span, parent_context: context.Context | None = None) -> None:
            if side == "start":
                raise RuntimeError("broken")

        def on_end(self, span: object) -> None:
            if side == "end":
                raise RuntimeError("broken")

    provider = TracerProvider()
    provider.add_span_processor(Broken())
    tracing = otel.Tracing(provider)
    async with bounded(), natsery.serve(nc, config(echo, instruments=[tracing])):
        for _ in range(3):
            reply = await natsery.ServiceClient(nc, instruments=[tracing]).request("echo", b"1")
            assert reply.data == b"1"
        await nc.flush()
    assert tracing._spans == {}
    assert not trace.get_current_span().get_span_context().is_valid
    assert "told nothing more" in caplog.text
    caplog.clear()


async def test_a_propagator_that_raises_costs_no_call_and_no_memory(
    nc: Connection, traces: Traces, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("opentelemetry.propagate.inject", fail)
    async with bounded(), natsery.serve(nc, config(echo)):
        for _ in range(3):
            reply = await natsery.ServiceClient(nc, instruments=[traces.tracing]).request("echo", b"1")
            assert reply.data == b"1"
    assert traces.tracing._spans == {}
    caplog.clear()


async def test_codes_that_peers_choose_do_not_make_time_series_without_end(nc: Connection) -> None:
    async def fails(request: natsery.Request) -> bytes:
        raise natsery.ServiceError(int(request.data), "no")

    reader = InMemoryMetricReader()
    metrics = otel.Metrics(MeterProvider([reader]))
    client = natsery.ServiceClient(nc, instruments=[metrics])
    async with bounded(), natsery.serve(nc, config(fails, instruments=[metrics])):
        for code in range(1_000, 1_000 + otel.MAX_CODES + 10):
            with pytest.raises(natsery.ServiceError):
                await client.request("fails", b"%d" % code)
        await nc.flush()
    data = reader.get_metrics_data()
    assert data is not None
    for metric in data.resource_metrics[0].scope_metrics[0].metrics:
        points = {str(point.attributes[otel.STATUS_CODE]): point for point in metric.data.data_points}  # type: ignore[index,union-attr]
        assert len(points) == otel.MAX_CODES + 1
        assert points["_OTHER"].count == 10  # type: ignore[union-attr]
        assert (points["_OTHER"].attributes or {})["error.type"] == "_OTHER"


async def test_a_request_that_is_full_goes_without_the_context(nc: Connection, traces: Traces) -> None:
    client = natsery.ServiceClient(nc, instruments=[traces.tracing])

    async def size(request: natsery.Request) -> bytes:
        return b"%d %d" % (len(request.data), len(request.headers))

    async def numbers(request: natsery.Request) -> AsyncIterator[bytes]:
        yield b"%d" % ("traceparent" in request.headers)

    async with bounded(), natsery.serve(nc, config(size, numbers)):
        assert (await client.request("size", bytes(nc.max_payload))).data == b"%d 0" % nc.max_payload
        data = bytes(nc.max_payload - 60)
        async with client.stream("numbers", data) as parts:
            assert (await parts.receive()).data == b"0"
        reply = await client.request("size", bytes(nc.max_payload - 40), headers=iter([("A", "b")]))
        assert reply.data == b"%d 1" % (nc.max_payload - 40)


async def test_a_server_without_headers_is_called_without_the_context(anyio_backend: str, traces: Traces) -> None:
    with NatsServer("no_header_support: true") as server:
        async with bounded(), natsery.connect(server.url) as nc, natsery.serve(nc, config(echo)):
            client = natsery.ServiceClient(nc, instruments=[traces.tracing])
            assert (await client.request("echo", b"1")).data == b"1"
    (call,) = traces.spans
    assert call.status.is_unset
