"""The exporter in memory and in virtual time: when it asks, and whom it answers."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import pytest
from prometheus_client.parser import text_string_to_metric_families

import natsery
from natsery import Message
from natsery._cli._discovery._query import Query
from natsery._cli._exit_codes import CommandError
from natsery._cli._export._exporter import FRESH_SECONDS, Exporter
from natsery._cli._export._ledger import SHOWN_SECONDS
from natsery.testing import MemoryBroker, MemoryConnection

from ..bounds import bounded
from ..virtual_time import VIRTUAL_BACKENDS
from .figures import STARTED, endpoint, stats

pytestmark = pytest.mark.anyio

LABELS = {
    "service": "calc",
    "version": "1.0.0",
    "id": "one",
    "endpoint": "add",
    "subject": "math.add",
    "queue_group": "q",
}


@pytest.fixture(params=[*VIRTUAL_BACKENDS])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return VIRTUAL_BACKENDS[request.param]()


@dataclass
class World:
    """An exporter, and what answers it."""

    broker: MemoryBroker
    nc: MemoryConnection
    exporter: Exporter
    replies: list[bytes] = field(default_factory=list)
    asked: int = 0

    async def samples(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        content_type, body = await self.exporter.metrics()
        assert content_type.startswith("text/plain; version=0.0.4")
        found = {}
        for family in text_string_to_metric_families(body.decode()):
            for sample in family.samples:
                key = sample.name, frozenset(sample.labels.items())
                assert key not in found
                found[key] = sample.value
        return found

    async def value(self, name: str, **labels: str) -> float | None:
        return (await self.samples()).get((name, frozenset(labels.items())))


@asynccontextmanager
async def world(*replies: natsery.ServiceStats, max_series: int = 100, stall: float = 0.5) -> AsyncIterator[World]:
    query = Query(name=None, id=None, wait=2, stall=stall, count=None)
    async with bounded(3600), MemoryBroker() as broker, broker.connect() as nc, broker.connect() as other:
        exporter = Exporter(nc, query, prefix="$SRV", max_series=max_series)
        this = World(broker, nc, exporter, [each.to_json() for each in replies])

        def answer(message: Message) -> None:
            this.asked += 1
            for each in this.replies:
                tasks.start_soon(other.publish, message.reply, each)

        async with anyio.create_task_group() as tasks:
            await other.add_subscription("$SRV.STATS", answer)
            yield this
            tasks.cancel_scope.cancel()


async def test_the_metrics_of_an_endpoint() -> None:
    async with world(stats(endpoint(7, 2, 1_500_000_000))) as this:
        samples = await this.samples()
    instance = frozenset((key, LABELS[key]) for key in ("service", "version", "id"))
    of_endpoint = frozenset(LABELS.items())
    assert samples == {
        ("nats_service_up", instance): 1,
        ("nats_service_started_timestamp_seconds", instance): STARTED.timestamp(),
        ("nats_service_requests_total", of_endpoint): 7,
        ("nats_service_errors_total", of_endpoint): 2,
        ("nats_service_processing_seconds_total", of_endpoint): 1.5,
        ("nats_service_scrape_duration_seconds", frozenset()): 0.5,
        ("nats_service_scrape_malformed_replies_total", frozenset()): 0,
        ("nats_service_scrape_dropped_replies_total", frozenset()): 0,
        ("nats_service_scrape_left_out_series", frozenset({("reason", "limit")})): 0,
        ("nats_service_scrape_left_out_series", frozenset({("reason", "name")})): 0,
    }


async def test_a_start_that_is_unknown_is_not_there() -> None:
    async with world(stats(started=STARTED.replace(year=1))) as this:
        names = {name for name, _ in await this.samples()}
    assert "nats_service_up" in names
    assert "nats_service_started_timestamp_seconds" not in names


async def test_those_who_ask_at_the_same_time_share_the_answers() -> None:
    async with world(stats(endpoint(7))) as this:
        found: list[float | None] = []

        async def ask() -> None:
            found.append(await this.value("nats_service_requests_total", **LABELS))

        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(ask)
        assert (found, this.asked) == ([7] * 10, 1)


async def test_answers_are_given_again_for_a_second() -> None:
    async with world(stats(endpoint(7))) as this:
        await this.samples()
        await anyio.sleep(FRESH_SECONDS / 2)
        await this.samples()
        assert this.asked == 1
        await anyio.sleep(FRESH_SECONDS / 2)
        await this.samples()
        assert this.asked == 2


async def test_one_that_is_cancelled_while_it_asks_leaves_it_to_the_next() -> None:
    async with world(stats(endpoint(7))) as this:
        values: list[float | None] = []

        async def ask() -> None:
            values.append(await this.value("nats_service_requests_total", **LABELS))

        async with anyio.create_task_group() as tasks, anyio.create_task_group() as impatient:
            impatient.start_soon(ask)
            await anyio.sleep(0.1)
            tasks.start_soon(ask)
            await anyio.sleep(0.1)
            impatient.cancel_scope.cancel()
        assert (values, this.asked) == ([7], 2)


async def test_without_services() -> None:
    async with world() as this:
        assert await this.value("nats_service_scrape_duration_seconds") == 2
        assert {name for name, _ in await this.samples() if "scrape" not in name} == set()


async def test_counters_go_on_over_resets_and_instances_go_down_and_away() -> None:
    async with world(stats(endpoint(7))) as this:
        await this.samples()
        this.replies = [stats(endpoint(2)).to_json()]
        await anyio.sleep(FRESH_SECONDS)
        assert await this.value("nats_service_requests_total", **LABELS) == 9
        this.replies = []
        await anyio.sleep(FRESH_SECONDS)
        instance = {key: LABELS[key] for key in ("service", "version", "id")}
        assert await this.value("nats_service_up", **instance) == 0
        assert await this.value("nats_service_requests_total", **LABELS) == 9
        await anyio.sleep(SHOWN_SECONDS)
        assert await this.value("nats_service_up", **instance) is None
        assert await this.value("nats_service_requests_total", **LABELS) is None


async def test_malformed_replies_are_counted_and_hide_no_other() -> None:
    async with world(stats(endpoint(7))) as this:
        odd = stats(endpoint(subject="a?"), instance="two").to_json().replace(b"?", rb"\u0007")
        this.replies += [b"{", b"[]", stats(endpoint(), name="o d").to_json(), odd]
        for malformed in (2, 4):
            assert await this.value("nats_service_requests_total", **LABELS) == 7
            assert await this.value("nats_service_scrape_malformed_replies_total") == malformed
            assert await this.value("nats_service_scrape_left_out_series", reason="name") == 5 + 3
            await anyio.sleep(FRESH_SECONDS)


async def test_what_is_beyond_the_limit_is_counted() -> None:
    async with world(stats(endpoint(7), endpoint(name="sub")), max_series=5) as this:
        assert await this.value("nats_service_requests_total", **LABELS) == 7
        assert await this.value("nats_service_scrape_left_out_series", reason="limit") == 3


@pytest.mark.parametrize("text", ['"', "\\", "\\n", "#", "{}", "größe", "数 🧮", "a,b=c"])
async def test_texts_are_escaped(text: str) -> None:
    async with world(stats(endpoint(7, subject=text))) as this:
        assert await this.value("nats_service_requests_total", **{**LABELS, "subject": text}) == 7


async def test_without_a_server_nothing_is_asked_and_no_instance_is_away() -> None:
    async with world(stats(endpoint(7)), stall=math.inf) as this:
        await this.samples()
        await anyio.sleep(FRESH_SECONDS)

        async with anyio.create_task_group() as tasks:

            async def disconnect() -> None:
                await anyio.sleep(1)
                this.broker.disconnect(this.nc)

            tasks.start_soon(disconnect)
            begun = anyio.current_time()
            with pytest.raises(CommandError, match="the connection to the server is lost"):
                await this.exporter.metrics()
            assert anyio.current_time() - begun == 1
        with pytest.raises(CommandError, match="the connection to the server is lost"):
            await this.exporter.metrics()
        assert this.asked == 2
        response = await this.exporter.respond("/metrics")
        assert (response.status, response.body) == (503, b"the connection to the server is lost\n")
        this.broker.reconnect(this.nc)
        assert await this.value("nats_service_requests_total", **LABELS) == 7


async def test_paths() -> None:
    async with world(stats(endpoint(7))) as this:
        assert (await this.exporter.respond("/metrics")).status == 200
        response = await this.exporter.respond("/")
        assert (response.status, response.body) == (404, b"the metrics are at /metrics\n")
