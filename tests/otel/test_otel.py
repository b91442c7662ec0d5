"""Spans and metrics of requests and calls, and the page that describes them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import Histogram, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

import natsery
from natsery import otel
from natsery.abc import Connection

from ..bounds import bounded
from ..calc_service import config
from ..pages import functions_of
from .conftest import Traces

pytestmark = pytest.mark.anyio

PAGE = Path(__file__).parent.parent.parent / "docs" / "telemetry.md"


def attributes(span: ReadableSpan) -> dict[str, Any]:
    """All but those that differ from run to run."""
    changing = {"server.address", "server.port", "natsery.waited"}
    return {key: value for key, value in (span.attributes or {}).items() if key not in changing}


async def test_a_chain_is_one_trace(nc: Connection, traces: Traces) -> None:
    """Requests are under way at the same time in both services; the parents must not be mixed up."""
    client = natsery.ServiceClient(nc, instruments=[traces.tracing])

    @natsery.endpoint(concurrency=8)
    async def outer(request: natsery.Request) -> bytes:
        await anyio.sleep(0.001)
        assert baggage.get_baggage("number") == request.data.decode()
        return await client.call("calc", "inner", request.data, returns=bytes)

    @natsery.endpoint(concurrency=8)
    async def inner(request: natsery.Request) -> bytes:
        await anyio.sleep(0.001)
        assert baggage.get_baggage("number") == request.data.decode()
        current = await anyio.to_thread.run_sync(trace.get_current_span)
        current.set_attribute("number", request.data.decode())
        return request.data

    async def call(number: int) -> None:
        token = context.attach(baggage.set_baggage("number", str(number)))
        reply = await client.call("calc", "outer", b"%d" % number, returns=bytes)
        context.detach(token)
        assert reply == b"%d" % number

    async with bounded(), natsery.serve(nc, config(outer, inner, instruments=[traces.tracing])):
        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(call, number)
    assert not trace.get_current_span().is_recording()
    spans = {span.context.span_id: span for span in traces.spans if span.context is not None}
    assert len(spans) == 80
    innermost = [span for span in spans.values() if "number" in attributes(span)]
    assert len({span.context.trace_id for span in innermost if span.context is not None}) == 20
    for span in innermost:
        chain = [span]
        while chain[-1].parent is not None:
            assert chain[-1].parent.trace_id == span.context.trace_id  # type: ignore[union-attr]
            chain.append(spans[chain[-1].parent.span_id])
        assert [(each.name, each.kind) for each in chain] == [
            ("calc/inner", SpanKind.SERVER),
            ("calc/inner", SpanKind.CLIENT),
            ("calc/outer", SpanKind.SERVER),
            ("calc/outer", SpanKind.CLIENT),
        ]


async def fails(request: natsery.Request) -> bytes:
    raise LookupError("private")


async def refuses(request: natsery.Request) -> bytes:
    raise natsery.ServiceError(400, "bad")


async def unavailable(request: natsery.Request) -> None:
    await request.respond_error(503, "closed")


@natsery.endpoint(timeout=0.001)
async def slow(request: natsery.Request) -> None:
    await anyio.sleep_forever()


async def good(request: natsery.Request) -> bytes:
    return b""


@pytest.mark.parametrize(
    ("handler", "code", "description", "recorded"),
    [
        (good, 200, None, []),
        (refuses, 400, "bad", []),
        (fails, 500, "Internal Server Error", ["LookupError"]),
        (unavailable, 503, "closed", []),
        (slow, 504, "Deadline Exceeded", ["natsery.DeadlineExceededError"]),
    ],
)
async def test_each_status_has_its_span(
    nc: Connection,
    traces: Traces,
    handler: natsery.EndpointHandler,
    code: int,
    description: str | None,
    recorded: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = natsery.ServiceClient(nc, instruments=[traces.tracing])
    async with bounded(), natsery.serve(nc, config(handler, instruments=[traces.tracing])) as service:
        (endpoint,) = service.endpoints
        with nullcontext() if code == 200 else pytest.raises(natsery.ServiceError, match=f"^{code}:"):
            await client.call("calc", endpoint.name, b"", returns=natsery.Message)
    (call,), (request,) = traces.of(SpanKind.CLIENT), traces.of(SpanKind.SERVER)
    method = {"rpc.system.name": "nats", "rpc.method": f"calc/{endpoint.name}"}
    status = {"rpc.response.status_code": str(code)}
    assert attributes(call) == method | status | ({} if code == 200 else {"error.type": str(code)})
    assert attributes(request) == method | status | ({} if code < 500 else {"error.type": str(code)})
    assert call.status.status_code is (StatusCode.UNSET if code == 200 else StatusCode.ERROR)
    assert request.status.status_code is (StatusCode.UNSET if code < 500 else StatusCode.ERROR)
    assert call.status.description == description
    assert request.status.description == (description if code >= 500 else None)
    assert [event.attributes["exception.type"] for event in request.events if event.attributes] == recorded
    assert call.events == ()
    if isinstance(nc, natsery.NativeConnection):
        assert call.attributes is not None
        assert call.attributes["server.address"] == "127.0.0.1"
        assert call.attributes["server.port"] == int(nc.connected_url.rpartition(":")[2])
    assert "server.address" not in (request.attributes or {}), "it is not where the requester has sent it"
    caplog.clear()


async def test_refusals_have_spans(nc: Connection, traces: Traces) -> None:
    begun = anyio.Event()

    @natsery.endpoint(pending_messages=1)
    async def stuck(request: natsery.Request) -> None:
        begun.set()
        await anyio.sleep_forever()

    headers = otel.headers_with_context({"A": "b"})
    assert headers == [("A", "b")]
    with traces.provider.get_tracer("test").start_as_current_span("root") as root:
        headers = otel.headers_with_context([("Traceparent", "old"), ("A", "b")])
    assert [name for name, _ in headers] == ["A", "traceparent"]
    async with bounded(), natsery.serve(nc, config(stuck, instruments=[traces.tracing]), grace=0):
        await nc.publish("stuck", reply="$SYS.x", headers=headers)
        await nc.publish("stuck", reply="r", headers=headers)
        await begun.wait()
        await nc.publish("stuck", reply="r", headers=headers)
        await nc.publish("stuck", reply="r", headers=headers)
        await nc.flush()
    server = traces.of(SpanKind.SERVER)
    assert sorted((attributes(span)["rpc.response.status_code"], span.status.description) for span in server) == [
        ("400", None),
        ("503", "Service Overloaded"),
        ("503", "Service Stopping"),
        ("503", "Service Stopping"),
    ]
    for span in server:
        assert span.parent is not None
        assert span.parent.span_id == root.get_span_context().span_id


async def expire(client: natsery.ServiceClient) -> None:
    with anyio.move_on_after(0.2):  # much, for a scope that is late when it is entered counts as cancelled
        await client.request("stuck.5")


async def cancel(client: natsery.ServiceClient) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await client.request("stuck.5")


async def no_responders(client: natsery.ServiceClient) -> None:
    with pytest.raises(natsery.NoRespondersError):
        await client.request("nobody.7")


async def too_large(client: natsery.ServiceClient) -> None:
    with pytest.raises(natsery.MaxPayloadError):
        await client.request("stuck.5", bytes(2_000_000))


async def malformed(client: natsery.ServiceClient) -> None:
    with pytest.raises(ValueError, match="subject"):
        await client.request("a b")


@pytest.mark.parametrize(
    ("call", "code", "error", "description"),
    [
        (expire, "504", "504", "Deadline Exceeded"),
        (cancel, "499", "499", "Cancelled"),
        (no_responders, None, "natsery.NoRespondersError", "no responders"),
        (too_large, None, "natsery.MaxPayloadError", "2000"),
        (malformed, None, "ValueError", "subject"),
    ],
)
async def test_calls_without_a_reply(
    nc: Connection,
    traces: Traces,
    call: Callable[[natsery.ServiceClient], Any],
    code: str | None,
    error: str,
    description: str,
) -> None:
    async with bounded(), nc.subscribe("stuck.*"):
        await call(natsery.ServiceClient(nc, instruments=[traces.tracing]))
    (span,) = traces.spans
    assert (span.name, span.status.status_code) == ("nats", StatusCode.ERROR)
    assert description in (span.status.description or "")
    found = attributes(span)
    assert found.pop("rpc.method_original") in ("stuck.5", "nobody.7", "a b")
    assert found.pop(otel.STATUS_CODE, None) == code
    assert found == {"rpc.system.name": "nats", "rpc.method": "_OTHER", "error.type": error}
    assert [each.attributes["exception.type"] for each in span.events if each.attributes] == ([] if code else [error])


async def test_a_method_is_what_is_called_by_name(nc: Connection, traces: Traces) -> None:
    """A function's endpoint has a name, even where its subject is the same."""

    @natsery.endpoint
    async def hello(request: natsery.Request) -> bytes:
        return b""

    client, served = natsery.ServiceClient(nc, instruments=[traces.tracing]), config(hello)
    async with bounded(), natsery.serve(nc, served):
        await client.call(hello)
        await client.call(hello, service=served)
        await client.call("calc", "hello", b"", returns=natsery.Message)
        await client.request("hello")
    assert [(span.name, attributes(span)["rpc.method"]) for span in traces.spans] == [
        ("hello", "hello"),
        ("calc/hello", "calc/hello"),
        ("calc/hello", "calc/hello"),
        ("nats", "_OTHER"),
    ]


async def test_streams_and_detached_requests_last_until_their_end(nc: Connection, traces: Traces) -> None:
    async def numbers(request: natsery.Request) -> AsyncIterator[bytes]:
        for number in range(3):
            trace.get_current_span().add_event("number")
            yield b"%d" % number

    async def later(request: natsery.Request) -> None:
        tasks.start_soon(answer, request.detach())

    async def answer(detached: natsery.DetachedRequest) -> None:
        async with detached as request:
            assert [span.name for span in traces.of(SpanKind.SERVER)] == ["calc/numbers"]
            await request.respond(b"late")

    client = natsery.ServiceClient(nc, instruments=[traces.tracing])
    served = config(numbers, later, instruments=[traces.tracing])
    async with bounded(), anyio.create_task_group() as tasks, natsery.serve(nc, served):
        async with client.stream(numbers, service=served) as replies:
            assert [reply async for reply in replies] == [b"0", b"1", b"2"]
        assert (await client.request("later")).data == b"late"
    stream, detached = traces.of(SpanKind.SERVER)
    assert [event.name for event in stream.events] == ["number"] * 3
    assert detached.name == "calc/later"
    assert [span.name for span in traces.of(SpanKind.CLIENT)] == ["calc/numbers", "nats"]
    for span, call in zip((stream, detached), traces.of(SpanKind.CLIENT), strict=True):
        assert span.parent is not None
        assert call.context is not None
        assert span.parent.span_id == call.context.span_id


async def test_a_subscriber_finds_the_context(nc: Connection, traces: Traces) -> None:
    with traces.provider.get_tracer("test").start_as_current_span("root") as root:
        async with bounded(), nc.subscribe("events") as events:
            await nc.publish("events", headers=otel.headers_with_context())
            await nc.publish("events")
            first, second = await events.receive(), await events.receive()
            found = trace.get_current_span(otel.context_of(first)).get_span_context()
            assert found.span_id == root.get_span_context().span_id
            assert not trace.get_current_span(otel.context_of(second)).get_span_context().is_valid


def histograms(reader: InMemoryMetricReader) -> dict[str, Any]:
    data = reader.get_metrics_data()
    assert data is not None
    (resource,) = data.resource_metrics
    (scope,) = resource.scope_metrics
    assert (scope.scope.name, scope.scope.version) == ("natsery", natsery.__version__)
    return {metric.name: metric for metric in scope.metrics}


async def test_metrics(nc: Connection, caplog: pytest.LogCaptureFixture) -> None:
    reader = InMemoryMetricReader()
    metrics = otel.Metrics(MeterProvider([reader]))
    client = natsery.ServiceClient(nc, instruments=[metrics])
    async with bounded(), natsery.serve(nc, config(good, fails, instruments=[metrics])):
        await client.call("calc", "good", b"", returns=natsery.Message)
        await client.request("good")
        with pytest.raises(natsery.ServiceError):
            await client.call("calc", "fails", b"", returns=natsery.Message)
        await nc.publish("good", reply="$SYS.x")
        await nc.flush()
    found = histograms(reader)
    assert set(found) == {"rpc.server.call.duration", "rpc.client.call.duration"}
    points: dict[str, set[tuple[str, str, str | None, int]]] = {}
    for name, metric in found.items():
        assert metric.unit == "s"
        assert isinstance(metric.data, Histogram)
        for point in metric.data.data_points:
            assert tuple(point.explicit_bounds) == otel.BUCKETS
            labels = point.attributes
            assert labels["rpc.system.name"] == "nats"
            row = (labels["rpc.method"], labels["rpc.response.status_code"], labels.get("error.type"), point.count)
            points.setdefault(name, set()).add(row)
    assert points["rpc.server.call.duration"] == {
        ("calc/good", "200", None, 2),
        ("calc/good", "400", None, 1),
        ("calc/fails", "500", "500", 1),
    }
    assert points["rpc.client.call.duration"] == {
        ("calc/good", "200", None, 1),
        ("_OTHER", "200", None, 1),
        ("calc/fails", "500", "500", 1),
    }
    caplog.clear()


async def test_the_page_is_one_trace(
    nc: Connection, traces: Traces, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trace, "get_tracer", lambda *_: traces.provider.get_tracer("natsery"))
    names = functions_of(PAGE, "Tracing()")
    async with bounded(), nc.subscribe("shop.quoted") as quoted:
        await names["main"](nc)
        published = otel.context_of(await quoted.receive())
    assert capsys.readouterr().out == "b'tea: 350'\n"
    assert [(span.name, span.kind.name) for span in traces.spans] == [
        ("shop/quote", "CLIENT"),
        ("shop/quote", "SERVER"),
        ("prices/price", "CLIENT"),
        ("prices/price", "SERVER"),
    ]
    (trace_id,) = {span.context.trace_id for span in traces.spans if span.context is not None}
    assert trace.get_current_span(published).get_span_context().trace_id == trace_id


async def test_the_page_lists_every_attribute(nc: Connection, traces: Traces) -> None:
    client = natsery.ServiceClient(nc, instruments=[traces.tracing])
    async with bounded(), natsery.serve(nc, config(fails, instruments=[traces.tracing])):
        with pytest.raises(natsery.ServiceError):
            await client.request("fails")
        await nc.flush()
    found = {name for span in traces.spans for name in span.attributes or {}}
    rows = re.findall(r"^\| (`[a-z].*?) \| ", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"`([a-z]+\.[a-z_.]+)`", row)}
    assert found <= listed
    assert listed - found <= {"rpc.server.call.duration", "rpc.client.call.duration", "server.address", "server.port"}
