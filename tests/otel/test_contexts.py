"""Each span has the right parent and is current where it should be, whatever tasks do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, aclosing, contextmanager
from contextvars import ContextVar

import anyio
import pytest
from opentelemetry import baggage, context, propagate, trace
from opentelemetry.propagators.textmap import TextMapPropagator, default_getter
from opentelemetry.trace import NoOpTracerProvider, SpanKind, StatusCode

import natsery
from natsery import otel
from natsery.abc import Connection

from ..bounds import bounded
from ..calc_service import config
from .conftest import Traces, id_of, parent_of

pytestmark = pytest.mark.anyio

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CALLER_SPAN = 0xB7AD6B7169203331


def current_span() -> int:
    return trace.get_current_span().get_span_context().span_id


async def test_a_service_in_a_span_of_the_program_does_not_make_requests_its_children(
    nc: Connection, traces: Traces
) -> None:
    """The tasks of a service, and those that deliver its messages, have inherited the context of whoever started them."""

    @natsery.endpoint(concurrency=4)
    async def add(request: natsery.Request) -> bytes:
        return b""

    with traces.tracer.start_as_current_span("program"):
        async with bounded(), natsery.serve(nc, config(add, instruments=[traces.tracing])) as service:
            await nc.request("add")
            await nc.request("add", headers={"traceparent": CALLER})
            await nc.publish("add", reply="$SYS.x")
            await nc.flush()
            lost = natsery.Outcome(503, natsery.FailureCause.UNDELIVERABLE, "Slow Consumer")
            traces.tracing.request_refused(service.endpoints[0], None, lost)
    assert [parent_of(span) for span in traces.of(SpanKind.SERVER)] == [None, CALLER_SPAN, None]


async def test_a_context_that_a_handler_leaves_attached_is_not_that_of_the_next_request(
    nc: Connection, traces: Traces
) -> None:
    seen: list[object] = []

    async def careless(request: natsery.Request) -> bytes:
        seen.append(context.get_value("key"))
        context.attach(context.set_value("key", len(seen)))
        return b""

    async with bounded(), natsery.serve(nc, config(careless, instruments=[traces.tracing])):
        await nc.request("careless")
        await nc.request("careless")
    assert seen == [None, None]


async def test_it_is_current_in_middlewares_threads_and_tasks_of_a_handler(nc: Connection, traces: Traces) -> None:
    async def middleware(request: natsery.Request, handler: natsery.Handler) -> bytes | None:
        with traces.tracer.start_as_current_span("middleware"):
            return await handler(request)

    @natsery.endpoint(in_thread=True, concurrency=2)
    def blocking(request: natsery.Request) -> bytes:
        with traces.tracer.start_as_current_span("thread"):
            return b""

    async def child() -> None:
        with traces.tracer.start_as_current_span("task"):
            await anyio.lowlevel.checkpoint()

    async def parent(request: natsery.Request) -> bytes:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(child)
            tasks.start_soon(child)
        return b""

    served = config(blocking, parent, middlewares=[middleware], instruments=[traces.tracing])
    async with bounded(), natsery.serve(nc, served):
        await nc.request("blocking")
        await nc.request("parent")
    names = {id_of(span): span.name for span in traces.spans}
    assert sorted((span.name, names.get(parent_of(span) or 0)) for span in traces.spans) == [
        ("calc/blocking", None),
        ("calc/parent", None),
        ("middleware", "calc/blocking"),
        ("middleware", "calc/parent"),
        ("task", "middleware"),
        ("task", "middleware"),
        ("thread", "middleware"),
    ]


async def test_streams_through_a_service_are_one_trace(nc: Connection, traces: Traces) -> None:
    """Between its parts, a generator that reads a stream hands its task to the worker that sends them."""
    client = natsery.ServiceClient(nc, instruments=[traces.tracing])
    seen: list[int] = []

    async def inner(request: natsery.Request) -> AsyncIterator[bytes]:
        for number in range(3):
            yield b"%d" % number
            await anyio.lowlevel.checkpoint()

    async def outer(request: natsery.Request) -> AsyncIterator[bytes]:
        before = current_span()
        async with client.stream("inner") as parts:
            async for part in parts:
                yield part.data
        seen.append(current_span())
        assert current_span() == before

    async with bounded(), natsery.serve(nc, config(inner, outer, instruments=[traces.tracing])):
        for _ in range(2):
            async with client.stream("outer") as parts:
                assert [part.data async for part in parts] == [b"0", b"1", b"2"]
            async with client.stream("outer") as parts:
                await parts.receive()
    assert current_span() == 0
    by_id = {id_of(span): span for span in traces.spans}
    chains = []
    for span in traces.of(SpanKind.SERVER):
        if span.name == "calc/inner":
            chain = [span]
            while (above := parent_of(chain[-1])) is not None:
                chain.append(by_id[above])
            chains.append([(each.name, each.kind.name) for each in chain])
    assert chains == [[("calc/inner", "SERVER"), ("nats", "CLIENT"), ("calc/outer", "SERVER"), ("nats", "CLIENT")]] * 4
    outer_spans = {id_of(span) for span in traces.of(SpanKind.SERVER) if span.name == "calc/outer"}
    assert set(seen) <= outer_spans
    assert {span.status.status_code for span in traces.of(SpanKind.SERVER)} == {StatusCode.UNSET}


@pytest.mark.parametrize("where", ["here", "in a child", "in a sibling"])
async def test_a_stream_may_be_left_in_another_task(
    nc: Connection, traces: Traces, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A generator around it may be closed anywhere, where OpenTelemetry's `detach` fails, and logs an error."""

    async def numbers(request: natsery.Request) -> AsyncIterator[bytes]:
        yield b"1"
        yield b"2"

    async def read() -> AsyncIterator[bytes]:
        async with natsery.ServiceClient(nc, instruments=[traces.tracing]).stream("numbers") as parts:
            async for part in parts:
                yield part.data

    async def close_later() -> None:
        with traces.tracer.start_as_current_span("sibling") as span:
            await begun.wait()
            await reading.aclose()
            assert trace.get_current_span() is span

    begun = anyio.Event()
    async with (
        bounded(),
        natsery.serve(nc, config(numbers)),
        anyio.create_task_group() as tasks,
        aclosing(read()) as reading,
    ):
        if where == "in a sibling":
            tasks.start_soon(close_later)
        assert await anext(reading) == b"1"
        begun.set()
        if where == "in a child":
            tasks.start_soon(reading.aclose)
        elif where == "here":
            await reading.aclose()
            assert current_span() == 0
        await anyio.wait_all_tasks_blocked()
    assert caplog.records == []
    (call,) = traces.of(SpanKind.CLIENT)
    assert call.status.status_code is StatusCode.UNSET, "it was left as by break"


async def test_headers_that_are_sent_on_do_not_bring_their_context(nc: Connection, traces: Traces) -> None:
    client = natsery.ServiceClient(nc, instruments=[traces.tracing])
    heard: list[natsery.Headers] = []

    async def first(request: natsery.Request) -> bytes:
        headers = natsery.Headers([*request.headers.multi_items(), ("baggage", "own=1")])
        return (await client.request("second", headers=headers)).data

    async def second(request: natsery.Request) -> bytes:
        heard.append(request.headers)
        return b"2"

    async with bounded(), natsery.serve(nc, config(first, second, instruments=[traces.tracing])):
        # A sender that writes other names' case, and whose state is not that of the spans here.
        await nc.request("first", headers=[("Traceparent", f"{CALLER[:-2]}00"), ("TraceState", "old=1"), ("A", "b")])
        await client.request("first", headers=[("Traceparent", CALLER), ("TraceState", "old=1"), ("A", "b")])
    call = traces.of(SpanKind.CLIENT)[-1]
    assert parent_of(traces.named("calc/second", SpanKind.SERVER)) == id_of(call)
    headers = heard[-1]
    assert headers.get_all("a") == ["b"]
    assert headers.get_all("baggage") == ["own=1"], "what the program adds itself is kept"
    assert [value[36:52] for value in headers.get_all("traceparent")] == [f"{id_of(call):016x}"]
    assert headers.get_all("tracestate") == []


async def test_without_an_sdk_the_context_passes_through(nc: Connection) -> None:
    tracing = otel.Tracing(NoOpTracerProvider())
    client = natsery.ServiceClient(nc, instruments=[tracing])

    async def first(request: natsery.Request) -> bytes:
        return (await client.request("second")).data

    async def second(request: natsery.Request) -> bytes:
        return "".join(request.headers.get_all("traceparent")).encode()

    async with bounded(), natsery.serve(nc, config(first, second, instruments=[tracing])):
        assert (await nc.request("first", headers={"traceparent": CALLER})).data == CALLER.encode()
        assert (await nc.request("first")).data == b""
    assert tracing._spans == {}


OTHERS: ContextVar[str] = ContextVar("others", default="")


class Others(natsery.Instrument):
    """Has a context variable of its own, and notes the span around it."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def request_started(self, request: natsery.Request) -> AbstractContextManager[None]:
        return self._around("request")

    def call_started(self, call: natsery.Call) -> AbstractContextManager[None]:
        return self._around("call")

    @contextmanager
    def _around(self, value: str) -> Iterator[None]:
        self.seen.append(current_span())
        token = OTHERS.set(value)
        try:
            yield
        finally:
            OTHERS.reset(token)


@pytest.mark.parametrize("is_first", [True, False])
async def test_other_instruments_stand_beside_it(nc: Connection, traces: Traces, is_first: bool) -> None:
    others = Others()
    instruments = [others, traces.tracing] if is_first else [traces.tracing, others]

    async def handler(request: natsery.Request) -> bytes:
        return f"{OTHERS.get()} {current_span():x}".encode()

    async with bounded(), natsery.serve(nc, config(handler, instruments=instruments)):
        reply = await natsery.ServiceClient(nc, instruments=instruments).request("handler")
    (call,), (request,) = traces.of(SpanKind.CLIENT), traces.of(SpanKind.SERVER)
    assert reply.data == f"request {id_of(request):x}".encode()
    assert others.seen == ([0, 0] if is_first else [id_of(call), id_of(request)])
    assert (OTHERS.get(), current_span()) == ("", 0)


class ByPrefix(TextMapPropagator):
    """Finds its headers by looking at the names of all, as Jaeger's does for baggage."""

    def extract(self, carrier, context=None, getter=default_getter):  # type: ignore[no-untyped-def]
        for key in getter.keys(carrier):
            if key.lower().startswith("uberctx-"):
                context = baggage.set_baggage(key[8:], getter.get(carrier, key)[0], context)
        return context

    def inject(self, carrier, context=None, setter=None):  # type: ignore[no-untyped-def]
        pass

    @property
    def fields(self) -> set[str]:
        return set()


def test_a_propagator_can_look_at_the_names_of_the_headers() -> None:
    previous = propagate.get_global_textmap()
    propagate.set_global_textmap(ByPrefix())
    try:
        found = otel.context_of(natsery.Message("a", headers=natsery.Headers({"uberctx-User": "7", "other": "8"})))
    finally:
        propagate.set_global_textmap(previous)
    assert baggage.get_all(found) == {"User": "7"}
