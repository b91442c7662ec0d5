"""What the semantic conventions for RPC say of durations, addresses, schemas and names."""

from __future__ import annotations

import anyio
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.semconv._incubating.attributes import rpc_attributes
from opentelemetry.semconv._incubating.metrics import rpc_metrics
from opentelemetry.semconv.schemas import Schemas
from opentelemetry.trace import SpanKind

import natsery
from natsery import otel
from natsery.abc import Connection
from natsery.testing import MemoryBroker

from ..bounds import bounded
from ..calc_service import add, config
from ..conftest import open_connection
from ..server import NatsServer
from ..virtual_time import VIRTUAL_BACKENDS
from .conftest import Traces

pytestmark = pytest.mark.anyio


@pytest.mark.skipif(not hasattr(Schemas, "V1_44_0"), reason="the installed conventions are older")
def test_the_names_are_those_of_version_1_44() -> None:
    assert Schemas.V1_44_0.value == otel.SCHEMA
    assert otel.STATUS_CODE == rpc_attributes.RPC_RESPONSE_STATUS_CODE
    assert (rpc_attributes.RPC_METHOD, rpc_attributes.RPC_METHOD_ORIGINAL) == ("rpc.method", "rpc.method_original")
    assert rpc_attributes.RPC_SYSTEM_NAME == "rpc.system.name"
    assert rpc_metrics.RPC_SERVER_CALL_DURATION == "rpc.server.call.duration"
    assert rpc_metrics.RPC_CLIENT_CALL_DURATION == "rpc.client.call.duration"


class TestVirtualTime:
    """The span's own clock is the wall's, so its begin is known as far back as the request has waited."""

    @pytest.fixture(params=[*VIRTUAL_BACKENDS])
    def anyio_backend(self, request: pytest.FixtureRequest) -> object:
        return VIRTUAL_BACKENDS[request.param]()

    async def test_a_request_lasts_from_its_arrival_to_its_end(self, traces: Traces) -> None:
        reader = InMemoryMetricReader()
        instruments = [traces.tracing, otel.Metrics(MeterProvider([reader]))]
        clock = natsery.Clock(monotonic_ns=lambda: round(anyio.current_time() * 1e9))

        @natsery.endpoint(pending_seconds=8)
        async def slow(request: natsery.Request) -> bytes:
            await anyio.sleep(5)
            return b""

        async with bounded(), MemoryBroker() as broker, broker.connect() as nc:
            async with natsery.serve(nc, config(slow, instruments=instruments, clock=clock)):
                for _ in range(3):
                    await nc.publish("slow", reply="replies")
                await anyio.sleep(30)
        found = [
            ((span.attributes or {}).get(otel.STATUS_CODE), round((span.attributes or {}).get("natsery.waited", -1)))  # type: ignore[call-overload]
            for span in sorted(traces.of(SpanKind.SERVER), key=lambda span: span.end_time or 0)
        ]
        assert sorted(found) == [("200", 0), ("200", 5), ("504", -1)]
        waits = sorted(span.end_time - span.start_time for span in traces.spans)  # type: ignore[operator]
        assert [round(each / 1e9) for each in waits] == [0, 5, 10], "in virtual time a handler takes none"
        data = reader.get_metrics_data()
        assert data is not None
        (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
        sums = {point.attributes[otel.STATUS_CODE]: point.sum for point in metric.data.data_points}  # type: ignore[index,union-attr]
        assert sums == {"200": pytest.approx(5 + 10), "504": pytest.approx(10)}


@pytest.mark.parametrize("transport", ["native", "adapted", "bridged"])
async def test_a_call_names_the_nats_server_and_a_request_does_not(
    nats_server: NatsServer, traces: Traces, anyio_backend: str, transport: str
) -> None:
    if (anyio_backend, transport) == ("trio", "adapted"):
        pytest.skip("a nats-py client lives in asyncio")
    reader = InMemoryMetricReader()
    instruments = [traces.tracing, otel.Metrics(MeterProvider([reader]))]
    async with bounded(), open_connection(transport, nats_server.url) as nc:
        async with natsery.serve(nc, config(add, instruments=instruments)):
            await natsery.ServiceClient(nc, instruments=instruments).request("add", b"1+2")
            await nc.flush()
    expected = {"server.address": "127.0.0.1", "server.port": int(nats_server.url.rpartition(":")[2])}
    (call,), (request,) = traces.of(SpanKind.CLIENT), traces.of(SpanKind.SERVER)
    assert {**(call.attributes or {}), **expected} == call.attributes
    assert "server.address" not in (request.attributes or {})
    data = reader.get_metrics_data()
    assert data is not None
    for metric in data.resource_metrics[0].scope_metrics[0].metrics:
        (point,) = metric.data.data_points
        has_address = "server.address" in (point.attributes or {})
        assert has_address is (metric.name == "rpc.client.call.duration")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("nats://[::1]:4333", {"server.address": "::1", "server.port": 4333}),
        ("tls://demo.nats.io", {"server.address": "demo.nats.io", "server.port": 4222}),
        ("", {}),
        (None, {}),
    ],
)
def test_addresses_are_read_from_urls(url: str | None, expected: dict[str, object]) -> None:
    class Somewhere:
        connected_url = url

    assert otel._server_of(Somewhere()) == expected  # type: ignore[arg-type]


async def test_the_scope_has_the_version_and_the_schema(nc: Connection, traces: Traces) -> None:
    async with bounded(), natsery.serve(nc, config(add, instruments=[traces.tracing])):
        await nc.request("add", b"1+2")
        await nc.flush()
    (span,) = traces.spans
    scope = span.instrumentation_scope
    assert scope is not None
    assert (scope.name, scope.version, scope.schema_url) == ("natsery", natsery.__version__, otel.SCHEMA)
