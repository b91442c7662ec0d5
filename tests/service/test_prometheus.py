"""What Prometheus reads of a program's services and clients."""

from __future__ import annotations

import anyio
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

import natsery
from natsery import Outcome, ServiceError
from natsery.abc import Connection
from natsery.prometheus import BUCKETS, MAX_CODES, MAX_METHODS, Metrics
from natsery.testing import MemoryBroker

from ..bounds import bounded
from ..calc_service import add, config
from ..virtual_time import IN_VIRTUAL_TIME

pytestmark = [pytest.mark.anyio, IN_VIRTUAL_TIME]


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def scrape(registry: CollectorRegistry) -> dict[str, dict[tuple[str, ...], float]]:
    """The samples of each name, by their labels' values in the order of the labels' names; without `_created`."""
    samples: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            if not sample.name.endswith("_created"):
                labels = tuple(value for _, value in sorted(sample.labels.items()))
                samples.setdefault(sample.name, {})[labels] = sample.value
    return samples


def virtual_clock() -> natsery.Clock:
    return natsery.Clock(monotonic_ns=lambda: round(anyio.current_time() * 1e9))


@natsery.endpoint(pending_messages=1)
async def slow(request: natsery.Request) -> bytes:
    await anyio.sleep(0.3)
    return b""


async def test_the_series_of_an_endpoint_begin_before_its_first_request(
    nc: Connection, registry: CollectorRegistry
) -> None:
    async with bounded(), natsery.serve(nc, config(add, instruments=[Metrics(registry)])):
        samples = scrape(registry)
    assert samples["natsery_requests_total"] == {("200", "add", "calc"): 0}
    assert samples["natsery_request_duration_seconds_count"] == {("add", "calc"): 0}
    assert samples["natsery_requests_pending"] == {("add", "calc"): 0}


async def test_requests_are_counted_by_code_and_timed(nc: Connection, registry: CollectorRegistry) -> None:
    instruments = [Metrics(registry)]
    async with bounded(), natsery.serve(nc, config(add, slow, instruments=instruments, clock=virtual_clock())):
        assert (await nc.request("add", b"1+2")).data == b"3"
        for _ in range(2):
            await nc.request("add", b"x")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(nc.request, "slow", b"")
            tasks.start_soon(nc.request, "slow", b"")
    samples = scrape(registry)
    assert samples["natsery_requests_total"] == {
        ("200", "add", "calc"): 1,
        ("400", "add", "calc"): 2,
        ("200", "slow", "calc"): 2,
    }
    assert samples["natsery_request_duration_seconds_count"] == {("add", "calc"): 3, ("slow", "calc"): 2}
    assert samples["natsery_request_duration_seconds_sum"]["slow", "calc"] == pytest.approx(0.6)
    assert samples["natsery_request_duration_seconds_bucket"]["slow", "0.25", "calc"] == 0
    assert samples["natsery_request_duration_seconds_bucket"]["slow", "0.5", "calc"] == 2
    assert samples["natsery_request_wait_seconds_count"] == {("add", "calc"): 3, ("slow", "calc"): 2}
    assert samples["natsery_request_wait_seconds_sum"]["slow", "calc"] == pytest.approx(0.3)


async def test_refused_requests_are_counted_by_their_cause(nc: Connection, registry: CollectorRegistry) -> None:
    served = natsery.serve(nc, config(slow, instruments=[Metrics(registry)], clock=virtual_clock()), grace=0)
    async with bounded(), nc.subscribe("replies") as replies, served as service:
        await nc.publish("slow", reply="$SRV.PING")
        for _ in range(4):
            await nc.publish("slow", reply="replies")
        for _ in range(2):
            await replies.receive()
    samples = scrape(registry)
    assert samples["natsery_requests_refused_total"] == {
        ("malformed", "slow", "calc"): 1,
        ("overloaded", "slow", "calc"): 2,
        ("stopping", "slow", "calc"): 1,
    }
    # As in the statistics: what was dropped is not among the requests.
    assert samples["natsery_requests_total"] == {("200", "slow", "calc"): 0, ("503", "slow", "calc"): 4}
    assert service.stats().endpoints[0].num_requests == 4
    # The one that had begun, and the one that was waiting.
    assert samples["natsery_request_duration_seconds_count"] == {("slow", "calc"): 1}
    assert samples["natsery_request_wait_seconds_count"] == {("slow", "calc"): 2}


async def test_replies_that_the_server_denies_are_counted(
    broker: MemoryBroker, nc: Connection, registry: CollectorRegistry
) -> None:
    """A service whose every reply was denied looked well: 200 for each request."""
    broker.permit(nc, publish=["add", "allowed"])
    async with bounded(), natsery.serve(nc, config(add, instruments=[Metrics(registry)])):
        assert scrape(registry)["natsery_replies_denied_total"] == {("add", "calc"): 0}
        for reply in ("denied.1", "allowed", "denied.2"):
            await nc.publish("add", b"1+1", reply=reply)
    samples = scrape(registry)
    assert samples["natsery_replies_denied_total"] == {("add", "calc"): 2}
    assert samples["natsery_requests_total"] == {("200", "add", "calc"): 3}


async def test_a_request_that_the_connection_had_no_room_for_is_counted(
    nc: Connection, registry: CollectorRegistry
) -> None:
    metrics = Metrics(registry)
    async with bounded(), natsery.serve(nc, config(add)) as service:
        outcome = Outcome(503, natsery.FailureCause.UNDELIVERABLE, "Slow Consumer")
        metrics.request_refused(service.endpoints[0], None, outcome)
    samples = scrape(registry)
    assert samples["natsery_requests_refused_total"] == {("undeliverable", "add", "calc"): 1}
    assert samples["natsery_requests_total"]["503", "add", "calc"] == 1


async def test_requests_in_hand_and_waiting_are_read_at_the_scrape(nc: Connection, registry: CollectorRegistry) -> None:
    let_go = anyio.Event()

    @natsery.endpoint(concurrency=2)
    async def waits(request: natsery.Request) -> bytes:
        await let_go.wait()
        return b""

    @natsery.endpoint
    async def detaches(request: natsery.Request) -> None:
        tasks.start_soon(answer_later, request.detach())

    async def answer_later(request: natsery.DetachedRequest) -> None:
        async with request:
            await let_go.wait()

    def gauges() -> tuple[dict[tuple[str, ...], float], dict[tuple[str, ...], float]]:
        samples = scrape(registry)
        return samples.get("natsery_requests_in_flight", {}), samples.get("natsery_requests_pending", {})

    instruments = [Metrics(registry)]
    async with (
        bounded(),
        anyio.create_task_group() as tasks,
        natsery.serve(nc, config(waits, detaches, instruments=instruments)) as service,
    ):
        for _ in range(5):
            await nc.publish("waits", reply="replies")
        await nc.publish("detaches", reply="replies")
        await anyio.sleep(1)
        assert gauges() == (
            {("waits", "calc"): 2, ("detaches", "calc"): 1},
            {("waits", "calc"): 5, ("detaches", "calc"): 1},
        )
        assert [each.in_flight for each in service.endpoints] == [2, 1]
        assert [each.pending for each in service.endpoints] == [5, 1]
        let_go.set()
        await anyio.sleep(1)
        nothing = {("waits", "calc"): 0, ("detaches", "calc"): 0}
        assert gauges() == (nothing, nothing)
    assert service.stats().endpoints[0].num_requests == 5
    assert gauges() == ({}, {}), "the service has ended"


async def test_instances_of_one_service_count_together(nc: Connection, registry: CollectorRegistry) -> None:
    metrics = Metrics(registry)
    one = config(add, instruments=[metrics], queue_group=natsery.NO_QUEUE_GROUP)
    async with bounded(), nc.subscribe("replies") as replies, natsery.serve(nc, one), natsery.serve(nc, one):
        await nc.publish("add", b"1+2", reply="replies")
        for _ in range(2):
            await replies.receive()
        await anyio.sleep(1)  # until both have ended, and not only answered
        samples = scrape(registry)
        assert samples["natsery_requests_total"] == {("200", "add", "calc"): 2}
        assert samples["natsery_requests_pending"] == {("add", "calc"): 0}


async def test_calls_are_counted_by_method_and_code(nc: Connection, registry: CollectorRegistry) -> None:
    client = natsery.ServiceClient(nc, instruments=[Metrics(registry)])
    async with bounded(), natsery.serve(nc, config(add, slow)):
        await client.request("add", b"1+2")
        await client.call("calc", "add", b"1+2", returns=natsery.Message)
        with pytest.raises(ServiceError):
            await client.call("calc", "add", b"x", returns=natsery.Message)
        with pytest.raises(natsery.NoRespondersError):
            await client.request("nobody", b"")
        await client.request("slow", b"")
    samples = scrape(registry)
    assert samples["natsery_calls_total"] == {
        ("200", "add"): 1,
        ("200", "calc/add"): 1,
        ("400", "calc/add"): 1,
        ("503", "nobody"): 1,
        ("200", "slow"): 1,
    }
    assert samples["natsery_call_duration_seconds_count"]["calc/add",] == 2
    assert samples["natsery_call_duration_seconds_sum"]["slow",] == pytest.approx(0.3)


async def test_subjects_with_ids_in_them_do_not_make_time_series_without_end(
    nc: Connection, registry: CollectorRegistry
) -> None:
    """A subject may hold an id, and each time series costs memory here and in Prometheus."""
    client = natsery.ServiceClient(nc, instruments=[Metrics(registry)])
    async with bounded():
        for number in range(MAX_METHODS + 10):
            with pytest.raises(natsery.NoRespondersError):
                await client.request(f"orders.{number}", b"")
        with pytest.raises(natsery.NoRespondersError):
            await client.request("orders.7", b"")
    calls = scrape(registry)["natsery_calls_total"]
    assert len(calls) == MAX_METHODS + 1
    assert calls["503", "_OTHER"] == 10
    assert calls["503", "orders.7"] == 2


async def test_codes_that_others_choose_do_not_make_time_series_without_end(
    nc: Connection, registry: CollectorRegistry
) -> None:
    async def fails(request: natsery.Request) -> bytes:
        raise ServiceError(int(request.data), "no")

    metrics = Metrics(registry)
    client = natsery.ServiceClient(nc, instruments=[metrics])
    async with bounded(), natsery.serve(nc, config(fails, instruments=[metrics])):
        for code in range(MAX_CODES + 10):
            with pytest.raises(ServiceError):
                await client.request("fails", b"%d" % code)
    samples = scrape(registry)
    assert len(samples["natsery_calls_total"]) == len(samples["natsery_requests_total"]) == MAX_CODES + 1
    assert samples["natsery_calls_total"]["_OTHER", "fails"] == 10
    assert samples["natsery_requests_total"]["_OTHER", "fails", "calc"] == 11, "200 has one of its own"


async def test_buckets_can_be_chosen(nc: Connection, registry: CollectorRegistry) -> None:
    async with bounded(), natsery.serve(nc, config(add, instruments=[Metrics(registry, buckets=(1, 10))])):
        await nc.request("add", b"1+2")
    bounds = [labels[1] for labels in scrape(registry)["natsery_request_duration_seconds_bucket"]]
    assert bounds == ["1.0", "10.0", "+Inf"]
    assert list(BUCKETS) == sorted(BUCKETS)


async def test_a_registry_takes_them_once(registry: CollectorRegistry) -> None:
    Metrics(registry)
    with pytest.raises(ValueError, match="natsery_requests"):
        Metrics(registry)


async def test_a_registry_is_told_from_a_port() -> None:
    with pytest.raises(TypeError, match=r"registry: must be a prometheus_client\.CollectorRegistry; got 9090"):
        Metrics(9090)  # type: ignore[arg-type]
