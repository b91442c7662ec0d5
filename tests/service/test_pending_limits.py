"""How many requests may wait at an endpoint, and what those beyond get."""

from __future__ import annotations

import anyio
import pytest

import natsery
from natsery.abc import Connection

from ..bounds import bounded
from ..calc_service import config, error_of

pytestmark = pytest.mark.anyio


async def test_a_full_queue_is_refused_with_an_answer(nc: Connection) -> None:
    release = anyio.Event()
    replies: list[str | None] = []

    @natsery.endpoint(pending_messages=2)
    async def slow(request: natsery.Request) -> bytes:
        started.set()
        await release.wait()
        return b""

    async def ask() -> None:
        replies.append(error_of(await nc.request("slow")))
        if len(replies) == 7:
            release.set()

    started = anyio.Event()
    async with bounded(), natsery.serve(nc, config(slow)) as service, anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await started.wait()
        for _ in range(9):
            tasks.start_soon(ask)
    assert replies == ["503:Service Overloaded"] * 7 + [None] * 3
    stats = service.stats().endpoints[0]
    assert (stats.num_requests, stats.num_errors) == (10, 7)
    assert stats.failures == {"overloaded": 7}


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_a_burst_at_an_idle_endpoint_fills_its_queue_and_its_workers(nc: Connection, concurrency: int) -> None:
    """The request that a worker was about to take counted as waiting, so that one too many was refused."""
    release = anyio.Event()

    @natsery.endpoint(pending_messages=2, concurrency=concurrency)
    async def slow(request: natsery.Request) -> bytes:
        await release.wait()
        return b""

    async with bounded(), natsery.serve(nc, config(slow)) as service, nc.subscribe("burst") as replies:
        for round_ in (1, 2, 3):  # the workers are new, then they rest
            for _ in range(10):
                await nc.publish("slow", reply="burst")
            for _ in range(8 - concurrency):
                assert error_of(await replies.receive()) == "503:Service Overloaded"
            release.set()
            for _ in range(2 + concurrency):
                assert error_of(await replies.receive()) is None
            release = anyio.Event()
            assert service.stats().endpoints[0].num_errors == (8 - concurrency) * round_


async def test_headers_count_in_the_bytes_that_wait(nc: Connection) -> None:
    """What a request weighed was its payload alone, so that headers filled the memory past every limit."""
    release = anyio.Event()

    @natsery.endpoint(pending_bytes=100_000)
    async def slow(request: natsery.Request) -> bytes:
        started.set()
        await release.wait()
        return b""

    started = anyio.Event()
    async with bounded(), natsery.serve(nc, config(slow)), nc.subscribe("replies") as replies:
        for round_ in range(2):  # what has been taken does not weigh any more
            await nc.publish("slow", reply="replies")
            await started.wait()
            for _ in range(4):
                await nc.publish("slow", bytes(20_000), reply="replies", headers={"Large": "x" * 20_000})
            for _ in range(2):
                assert error_of(await replies.receive()) == "503:Service Overloaded", round_
            release.set()
            for _ in range(3):
                assert error_of(await replies.receive()) is None
            release, started = anyio.Event(), anyio.Event()


async def test_a_request_beyond_the_limit_in_bytes_is_taken_if_none_waits(nc: Connection) -> None:
    release, started = anyio.Event(), anyio.Event()

    @natsery.endpoint(pending_bytes=100)
    async def slow(request: natsery.Request) -> bytes:
        started.set()
        await release.wait()
        return request.data[:1]

    async with bounded(), natsery.serve(nc, config(slow)), nc.subscribe("replies") as replies:
        await nc.publish("slow", bytes(200), reply="replies")
        await started.wait()
        await nc.publish("slow", bytes(200), reply="replies")
        await nc.publish("slow", b"x", reply="replies")
        assert error_of(await replies.receive()) == "503:Service Overloaded"
        release.set()
        assert [(await replies.receive()).data for _ in range(2)] == [b"\0", b"\0"]


@pytest.mark.parametrize("limits", [{"pending_messages": 5}, {"pending_bytes": 500}], ids=["messages", "bytes"])
async def test_detached_requests_take_their_share_of_the_limit_until_they_end(
    nc: Connection, limits: dict[str, int]
) -> None:
    detached: list[natsery.DetachedRequest] = []
    heard: list[tuple[str, str | None]] = []

    async def later(request: natsery.Request) -> None:
        if request.data[:1] == b"d":
            detached.append(request.detach())
        else:
            await anyio.sleep_forever()

    async def send(data: bytes, count: int = 1) -> None:
        for _ in range(count):
            await nc.publish("later", data.ljust(100), reply="replies")
            await nc.flush()
            await anyio.wait_all_tasks_blocked()

    def hear(error: Exception, endpoint: natsery.Endpoint | None, request: natsery.Request | None) -> None:
        heard.append((str(error), endpoint and endpoint.name))

    endpoint = natsery.EndpointConfig("later", later, **limits)
    async with bounded(), natsery.serve(nc, config(endpoint, error_handler=hear), grace=0) as service:
        await send(b"detach", 2)
        await send(b"stuck", 1 + 3)
        assert (service.pending, heard) == (6, [])
        await send(b"stuck")
        full = "endpoint 'later' refuses requests: 5 requests of 500 bytes are waiting"
        assert (service.pending, heard) == (6, [(full, "later")])
        for each in detached:
            async with each:
                pass
        await send(b"stuck", 2)
        assert service.pending == 6
        await send(b"stuck")
        assert (service.pending, service.stats().endpoints[0].failures) == (6, {"overloaded": 2})


async def test_a_detached_request_gives_back_the_share_that_it_took(nc: Connection) -> None:
    """One whose large body was dropped while it waited kept its share for ever, until the endpoint refused everything."""
    client = natsery.ServiceClient(nc)  # which raises what is refused
    release = anyio.Event()

    async def answer(detached: natsery.DetachedRequest) -> None:
        async with detached as request:
            request.data = b""
            await release.wait()
            await request.respond(b"done")

    @natsery.endpoint(pending_bytes=600)  # for four, with the headers that say how long their callers wait
    async def later(request: natsery.Request) -> None:
        tasks.start_soon(answer, request.detach())

    async with bounded(), anyio.create_task_group() as tasks, natsery.serve(nc, config(later)) as service:
        for _ in range(3):
            release = anyio.Event()
            async with anyio.create_task_group() as callers:
                for _ in range(4):
                    callers.start_soon(client.request, "later", bytes(100))
                while service.pending < 4:  # noqa: ASYNC110  # what arrives wakes nobody in here
                    await anyio.lowlevel.checkpoint()
                release.set()
        assert service.stats().endpoints[0].num_errors == 0
