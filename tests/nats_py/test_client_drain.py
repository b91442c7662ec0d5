"""``drain`` of a nats-py client that serves: the services end first, and answer all that they have accepted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import anyio.lowlevel
import nats
import pytest
from nats.aio.client import Client

import natsery
from natsery.abc import Connection

from ..bounds import bounded
from ..calc_service import add, config
from ..server import NatsServer

pytestmark = pytest.mark.anyio

REQUESTS = 20

WAYS = [
    pytest.param(((backend, {}), way), id=f"{backend}-{way}")
    for backend, way in (("asyncio", "client"), ("asyncio", "adapt"), ("asyncio", "bridge"), ("trio", "bridge"))
]


@pytest.fixture(params=WAYS)
def setting(request: pytest.FixtureRequest) -> object:
    return request.param


class Drained:
    """A client that serves in one of the ways, and its ``drain``."""

    def __init__(self, served: Connection | Client, connection: Connection | None) -> None:
        self.served = served
        self.connection = connection

    async def drain(self) -> None:
        if isinstance(self.served, Client):
            await self.served.drain()
        elif isinstance(self.served, natsery.BridgedConnection):
            await self.served.call(lambda client: client.drain())
        else:
            assert isinstance(self.served, natsery.AdaptedConnection)
            await self.served.client.drain()


@asynccontextmanager
async def open_drained(way: str, url: str) -> AsyncIterator[Drained]:
    async with AsyncExitStack() as stack:
        if way == "bridge":
            nc = await stack.enter_async_context(natsery.bridge(url))
            yield Drained(nc, nc)
            return
        client = await nats.connect(url)
        if way == "client":
            yield Drained(client, None)
        else:
            adapted = await stack.enter_async_context(natsery.adapt(client))
            yield Drained(adapted, adapted)
        assert client.is_closed


async def start_requests(caller: Connection, service: natsery.Service) -> None:
    """Send requests to ``slow``, of which all are accepted when this returns."""
    for number in range(REQUESTS):
        await caller.publish("slow", b"%d" % number, reply="answers")
    await caller.flush()
    while service.pending < REQUESTS:
        await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("is_body", [True, False], ids=["body", "task"])
async def test_accepted_requests_are_answered(nats_server: NatsServer, transport: str, is_body: bool) -> None:
    """All of them were lost: nats-py waits for its own callbacks only, and closed the client under the service."""
    stopping = anyio.Event()

    async def slow(request: natsery.Request) -> bytes:
        await stopping.wait()
        return request.data

    async with bounded(), natsery.connect(nats_server.url) as caller, caller.subscribe("answers") as answers:
        async with open_drained(transport, nats_server.url) as drained, anyio.create_task_group() as tasks:
            async with natsery.serve(drained.served, config(slow)) as service:
                await start_requests(caller, service)

                async def release() -> None:
                    await service._stopping.wait()
                    stopping.set()

                tasks.start_soon(release)
                if is_body:
                    await drained.drain()
                else:
                    tasks.start_soon(drained.drain)
                    await service.wait_stopped()
            assert service.stats().endpoints[0].num_errors == 0
        replies = sorted([int((await answers.receive()).data) for _ in range(REQUESTS)])
        assert replies == list(range(REQUESTS))
        with pytest.raises(natsery.NoRespondersError):
            await caller.request("slow")


async def test_handlers_can_still_ask_others(nats_server: NatsServer, transport: str) -> None:
    """The inbox that a request's reply comes to outlives the services."""
    if transport == "client":
        return  # a handler has no connection there
    stopping = anyio.Event()

    async def slow(request: natsery.Request) -> bytes:
        await stopping.wait()
        assert drained.connection is not None
        return (await drained.connection.request("add", request.data)).data

    async with bounded(), natsery.connect(nats_server.url) as caller, natsery.serve(caller, config(add)):
        async with caller.subscribe("answers") as answers, open_drained(transport, nats_server.url) as drained:
            async with natsery.serve(drained.served, config(slow)) as service, anyio.create_task_group() as tasks:
                assert drained.connection is not None
                await drained.connection.request("add", b"1+1")
                await caller.publish("slow", b"1+2", reply="answers")
                while not service.pending:
                    await anyio.lowlevel.checkpoint()
                tasks.start_soon(drained.drain)
                await service._stopping.wait()
                stopping.set()
            assert (await answers.receive()).data == b"3"


async def test_every_service_of_the_client_ends_first(nats_server: NatsServer, transport: str) -> None:
    stopping = anyio.Event()

    async def slow(request: natsery.Request) -> bytes:
        await stopping.wait()
        return request.data

    async with bounded(), natsery.connect(nats_server.url) as caller, caller.subscribe("answers") as answers:
        async with open_drained(transport, nats_server.url) as drained:
            async with (
                natsery.serve(drained.served, config(add)) as quick,
                natsery.serve(drained.served, config(slow)) as service,
                anyio.create_task_group() as tasks,
            ):
                await start_requests(caller, service)
                tasks.start_soon(drained.drain)
                await quick._stopping.wait()
                await service._stopping.wait()
                stopping.set()
            for _ in range(REQUESTS):
                await answers.receive()


async def test_a_stream_of_messages_gets_what_was_sent_before(nats_server: NatsServer, transport: str) -> None:
    async with bounded(), natsery.connect(nats_server.url) as caller:
        async with open_drained(transport, nats_server.url) as drained:
            if drained.connection is None:
                await drained.drain()
                return
            async with drained.connection.subscribe("x") as messages:
                for number in range(100):
                    await caller.publish("x", b"%d" % number)
                await caller.flush()
                await drained.drain()
                assert [int((await messages.receive()).data) for _ in range(100)] == list(range(100))
                with pytest.raises(natsery.ConnectionClosedError):
                    await messages.receive()


async def test_a_drain_that_runs_out_of_time_closes_the_client(nats_server: NatsServer, transport: str) -> None:
    """nats-py's ``drain_timeout`` bounds it; what the handlers return then cannot be sent, and is counted so."""
    if transport != "adapt":
        return
    client = await nats.connect(nats_server.url, drain_timeout=0.01)
    release = anyio.Event()

    async def slow(request: natsery.Request) -> bytes:
        await release.wait()
        return request.data

    async with bounded(), natsery.connect(nats_server.url) as caller:
        with pytest.raises(natsery.ConnectionClosedError):
            async with natsery.serve(client, config(slow)) as service:
                await start_requests(caller, service)
                await client.drain()
                release.set()
                await service.wait_stopped()
        assert service.stats().endpoints[0].num_errors == REQUESTS


async def test_a_handler_can_drain_its_client(nats_server: NatsServer, transport: str) -> None:
    """Cut off after the grace, it left the client half drained: neither connected nor closed."""
    done = anyio.Event()

    async def drains(request: natsery.Request) -> None:
        try:
            await drained.drain()
        finally:
            done.set()

    async with bounded(), natsery.connect(nats_server.url) as caller:
        async with open_drained(transport, nats_server.url) as drained:
            async with natsery.serve(drained.served, config(drains), grace=0.05) as service:
                await caller.publish("drains")
                await service.wait_stopped()
            assert done.is_set()
            if drained.connection is not None:
                await drained.connection.wait_closed()


async def test_a_drain_that_is_cancelled_goes_on(nats_server: NatsServer, transport: str) -> None:
    release = anyio.Event()

    async def slow(request: natsery.Request) -> bytes:
        await release.wait()
        return request.data

    async with bounded(), natsery.connect(nats_server.url) as caller, caller.subscribe("answers") as answers:
        async with open_drained(transport, nats_server.url) as drained:
            async with natsery.serve(drained.served, config(slow)) as service:
                await start_requests(caller, service)
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(drained.drain)
                    await service._stopping.wait()
                    tasks.cancel_scope.cancel()
                release.set()
                await service.wait_stopped()
            assert service.stats().endpoints[0].num_errors == 0
            for _ in range(REQUESTS):
                await answers.receive()


async def test_the_client_gets_its_own_drain_back(nats_server: NatsServer, transport: str) -> None:
    if transport != "adapt":
        return
    async with bounded():
        client = await nats.connect(nats_server.url)
        before = client.drain
        async with natsery.adapt(client), natsery.adapt(client):
            assert client.drain != before
        assert client.drain == before
        await client.close()
