"""What is counted, and what the stats handler adds."""

from __future__ import annotations

import json

import anyio
import pytest

import natsery
from natsery.abc import Connection

from ..bounds import bounded
from ..calc_service import add, config

pytestmark = pytest.mark.anyio


async def test_the_books_balance_per_cause(nc: Connection, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL", "natsery")
    held = anyio.Event()

    async def mixed(request: natsery.Request) -> bytes:
        kind = request.data[:1]
        if kind == b"s":
            raise natsery.ServiceError(404, "not found")
        if kind == b"x":
            raise KeyError("unexpected")
        return b"ok"

    @natsery.endpoint(timeout=0.02)
    async def slow(request: natsery.Request) -> bytes:
        await anyio.sleep_forever()
        return b""

    @natsery.endpoint(pending_messages=1)
    async def stuck(request: natsery.Request) -> bytes:
        held.set()
        await anyio.sleep_forever()
        return b""

    served = natsery.serve(nc, config(mixed, slow, stuck), grace=0)
    async with bounded(), nc.subscribe("books") as replies, served as service:
        for _ in range(2_500):
            await nc.publish("mixed", b"g")
            for kind in (b"g", b"s", b"x"):
                await nc.publish("mixed", kind, reply="books")
        await nc.publish("stuck", reply="books")
        await held.wait()
        for _ in range(9):
            await nc.publish("stuck", reply="books")
        for _ in range(10):
            await nc.publish("slow", reply="books")
        for _ in range(3 * 2_500 + 8 + 10):  # all but the two that only the end of the service answers
            await replies.receive()
    mixed_stats, slow_stats, stuck_stats = service.stats().endpoints
    assert (mixed_stats.num_requests, mixed_stats.num_errors) == (10_000, 7_500)
    assert mixed_stats.failures == {"service_error": 2_500, "exception": 2_500, "undeliverable": 2_500}
    assert (slow_stats.num_requests, slow_stats.failures) == (10, {"timeout": 10})
    assert stuck_stats.num_requests == stuck_stats.num_errors == 10
    assert stuck_stats.failures == {"overloaded": 8, "stopping": 2}


async def test_the_stats_handler_gives_data_and_may_fail(nc: Connection) -> None:
    async def data(stats: natsery.EndpointStats) -> object:
        if stats.name == "add":
            raise RuntimeError("no data")
        return {"seen": stats.num_requests}

    async def other(request: natsery.Request) -> bytes:
        return b""

    async with bounded(), natsery.serve(nc, config(add, other, stats_handler=data)) as service:
        first, second = json.loads((await nc.request("$SRV.STATS.calc")).data)["endpoints"]
        assert "data" not in first
        assert second["data"] == {"seen": 0}
        await nc.request("other")
        service.reset()
        assert service.stats().endpoints[1].num_requests == 0


async def test_a_stats_handler_may_be_one_whose_parameters_nobody_knows(nc: Connection) -> None:
    """As the built-in ``str``, which Python cannot say what it takes."""
    async with bounded(), natsery.serve(nc, config(add, stats_handler=str)):
        (stats,) = json.loads((await nc.request("$SRV.STATS.calc")).data)["endpoints"]
    assert stats["data"].startswith("EndpointStats(name='add'")


async def test_the_log_says_that_the_stats_handler_raised(nc: Connection, caplog: pytest.LogCaptureFixture) -> None:
    """It said that the endpoint's handler had."""

    def fail(stats: natsery.EndpointStats) -> None:
        raise LookupError("no data")

    async with bounded(), natsery.serve(nc, config(add, stats_handler=fail)):
        await natsery.ServiceClient(nc).stats("calc", count=1)
    assert "service calc, endpoint add: the stats handler raised" in caplog.messages
    assert not any("the handler raised" in each for each in caplog.messages)


async def test_what_is_no_json_is_left_out_and_the_endpoint_named(nc: Connection) -> None:
    told: list[tuple[str, str | None]] = []

    def tell(error: Exception, endpoint: natsery.Endpoint | None, request: natsery.Request | None) -> None:
        told.append((type(error).__name__, endpoint and endpoint.name))

    async with bounded(), natsery.serve(nc, config(add, stats_handler=lambda stats: object(), error_handler=tell)):
        (stats,) = json.loads((await nc.request("$SRV.STATS.calc")).data)["endpoints"]
    assert "data" not in stats
    assert told == [("TypeError", "add")]


async def details_of(nc: Connection) -> list[object]:
    """The data of each endpoint in STATS."""
    reply = json.loads((await nc.request("$SRV.STATS.calc")).data)
    return [endpoint.get("data", "none") for endpoint in reply["endpoints"]]


NOTHING = {"failures": {}, "malformed": 0, "pending": 0, "in_flight": 0}


async def test_details_travel_in_stats(nc: Connection) -> None:
    let_go = anyio.Event()

    @natsery.endpoint(concurrency=2, pending_messages=3)
    async def waits(request: natsery.Request) -> bytes:
        await let_go.wait()
        return b""

    async with (
        bounded(),
        nc.subscribe("replies") as replies,
        natsery.serve(nc, config(add, waits, stats_details=True)) as service,
    ):
        await nc.request("add", b"x")
        await nc.publish("add", b"1+2", reply="$SRV.PING")
        for _ in range(7):
            await nc.publish("waits", reply="replies")
        for _ in range(2):
            await replies.receive()
        assert await details_of(nc) == [
            {"natsery": {"failures": {"service_error": 1}, "malformed": 1, "pending": 0, "in_flight": 0}},
            {"natsery": {"failures": {"overloaded": 2}, "malformed": 0, "pending": 5, "in_flight": 2}},
        ]
        assert service.stats().endpoints[1].data == {
            "natsery": {"failures": {"overloaded": 2}, "malformed": 0, "pending": 5, "in_flight": 2}
        }
        (seen,) = await natsery.ServiceClient(nc).stats("calc", count=1)
        assert [each.failures for each in seen.endpoints] == [{"service_error": 1}, {"overloaded": 2}]
        assert [each.malformed for each in seen.endpoints] == [1, 0]
        let_go.set()
        for _ in range(5):
            await replies.receive()
        service.reset()
        assert await details_of(nc) == [{"natsery": NOTHING}, {"natsery": NOTHING}]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (None, {"natsery": NOTHING}),
        ({}, {"natsery": NOTHING}),
        ({"stock": 3}, {"stock": 3, "natsery": NOTHING}),
        ({"natsery": "mine"}, {"natsery": "mine"}),
        ([1], [1]),
        ("text", "text"),
        (0, 0),
    ],
)
async def test_details_leave_the_data_of_the_stats_handler_as_it_is(
    nc: Connection, data: object, expected: object
) -> None:
    async with bounded(), natsery.serve(nc, config(add, stats_details=True, stats_handler=lambda _: data)):
        before = repr(data)
        assert await details_of(nc) == [expected]
        assert repr(data) == before


async def test_without_the_option_there_are_no_details(nc: Connection) -> None:
    async with bounded(), natsery.serve(nc, config(add)):
        assert await details_of(nc) == ["none"]
    with pytest.raises(natsery.ConfigError, match=r"ServiceConfig\.stats_details: must be True or False; got 1"):
        config(add, stats_details=1)
