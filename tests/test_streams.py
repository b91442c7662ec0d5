"""Streamed replies through every transport, the broker in memory included, on every event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import nats
import pytest

import natsery
from natsery.abc import Connection

from .server import NatsServer
from .test_contract import MEMORY, Network, network  # noqa: F401  # the fixture
from .conftest import BACKENDS, MATRIX, open_connection
from .test_serve import bounded, config, error_of

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[*MATRIX, *MEMORY])
def setting(request: pytest.FixtureRequest) -> object:
    return request.param


@pytest.fixture
async def nc(network: Network) -> AsyncIterator[Connection]:  # noqa: F811  # the fixture
    async with network.connect() as connection:
        yield connection


@natsery.endpoint
async def numbers(request: natsery.Request) -> AsyncIterator[bytes]:
    for number in range(int(request.data)):
        yield b"%d" % number


async def test_a_plain_requester_reads_a_whole_stream(nc: Connection) -> None:
    client = natsery.ServiceClient(nc)
    async with bounded(), natsery.serve(nc, config(numbers)) as service:
        async with client.request_many("numbers", b"1000", sentinel=b"") as replies:
            assert [int(reply.data) async for reply in replies] == list(range(1000))
        assert replies.ended is natsery.EndReason.SENTINEL
        assert service.stats().endpoints[0].num_requests == 1


async def test_a_plain_requester_that_leaves_is_noticed(nc: Connection, network: Network) -> None:  # noqa: F811
    log: list[str] = []

    async def endless(request: natsery.Request) -> AsyncIterator[bytes]:
        log.append("begun")
        try:
            while True:
                yield bytes(1000)
        finally:
            await anyio.sleep(0)
            log.append("ended")

    async with bounded(), network.connect() as other, natsery.serve(nc, config(endless)) as service:
        for _ in range(3):
            async with natsery.ServiceClient(other).request_many("endless", wait=10) as replies:
                assert len((await replies.receive()).data) == 1000
        async with natsery.ServiceClient(other).request_many("endless", wait=10) as replies:
            await replies.receive()
            assert log == ["begun", "ended"] * 3 + ["begun"]
            stats = service.stats().endpoints[0]
            assert (stats.num_requests, stats.failures) == (3, {"requester_gone": 3})
