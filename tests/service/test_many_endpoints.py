"""Many endpoints and many services cost so much each, however many others there are: counted in calls, tasks and turns."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import pytest
import trio

import natsery
from natsery import EndpointConfig, ServiceConfig
from natsery.abc import Connection
from natsery.testing import MemoryBroker

from ..bounds import bounded

pytestmark = pytest.mark.anyio

FEW, MANY = 100, 400


@pytest.fixture(params=["trio"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


@pytest.fixture
async def nc() -> AsyncIterator[Connection]:
    async with MemoryBroker() as broker, broker.connect() as connection:
        yield connection


async def echo(request: natsery.Request) -> bytes:
    return request.data


def endpoints(count: int) -> list[EndpointConfig]:
    return [EndpointConfig(f"echo-{number}", echo, subject=f"many.{number}") for number in range(count)]


def config(count: int) -> ServiceConfig:
    return ServiceConfig("many", "1.0.0", endpoints=endpoints(count))


class Calls:
    """Counts the calls of functions, compiled ones included, in a block."""

    def __init__(self) -> None:
        self.count = 0

    def _count(self, _frame: object, event: str, _argument: object) -> None:
        self.count += event in ("call", "c_call")

    def __enter__(self) -> Calls:
        self._previous = sys.getprofile()
        sys.setprofile(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(self._previous)


@asynccontextmanager
async def counted(calls: Calls) -> AsyncIterator[None]:
    with calls:
        yield


async def starting(nc: Connection, count: int, calls: Calls) -> None:
    configured = config(count)
    async with AsyncExitStack() as stack:
        with calls:
            await stack.enter_async_context(natsery.serve(nc, configured))


async def configuring(_: Connection, count: int, calls: Calls) -> None:
    with calls:
        config(count)


async def stopping(nc: Connection, count: int, calls: Calls) -> None:
    async with counted(calls), natsery.serve(nc, config(count)):
        calls.count = 0


async def asking_for_stats(nc: Connection, count: int, calls: Calls) -> None:
    async with natsery.serve(nc, config(count)):
        with calls:
            stats = natsery.ServiceStats.from_json
            reply = await nc.request("$SRV.STATS.many")
        assert len(stats(reply.data).endpoints) == count


async def requesting_each(nc: Connection, count: int, calls: Calls) -> None:
    async with natsery.serve(nc, config(count)):
        with calls:
            for number in range(count):
                await nc.request(f"many.{number}")


async def adding_one_at_a_time(nc: Connection, count: int, calls: Calls) -> None:
    async with natsery.serve(nc, config(0)) as service:
        with calls:
            for each in endpoints(count):
                await service.add_endpoint(each)


async def removing_one_at_a_time(nc: Connection, count: int, calls: Calls) -> None:
    async with natsery.serve(nc, config(count)) as service:
        added = service.endpoints
        with calls:
            for endpoint in reversed(added):
                await endpoint.remove()
        assert service.endpoints == ()


async def opening_services(nc: Connection, count: int, calls: Calls) -> None:
    async with AsyncExitStack() as stack:
        with calls:
            for number in range(count // 10):
                one = ServiceConfig(f"small-{number}", "1.0.0", endpoints=[EndpointConfig("echo", echo)])
                await stack.enter_async_context(natsery.serve(nc, one))
            await stack.aclose()


async def calling_one(nc: Connection, count: int, calls: Calls) -> None:
    """Called as often as it has endpoints, which the client has to find in its configuration."""
    configured = config(count)
    client = natsery.ServiceClient(nc)
    async with natsery.serve(nc, configured):
        with calls:
            for endpoint in configured.placed_endpoints():
                await client.call(endpoint.config, service=configured)


@pytest.mark.parametrize(
    "work",
    [
        configuring,
        starting,
        stopping,
        asking_for_stats,
        requesting_each,
        adding_one_at_a_time,
        removing_one_at_a_time,
        opening_services,
        calling_one,
    ],
)
async def test_four_times_as_many_take_four_times_the_calls(
    nc: Connection, work: Callable[[Connection, int, Calls], Awaitable[None]]
) -> None:
    async with bounded(60):
        counts = []
        for count in (FEW, FEW, MANY):  # the first fills what is kept for all
            calls = Calls()
            await work(nc, count, calls)
            counts.append(calls.count)
    assert counts[-1] < 1.1 * MANY / FEW * counts[1]


async def test_endpoints_without_requests_have_no_tasks(nc: Connection) -> None:
    async def tasks_with(count: int) -> int:
        async with natsery.serve(nc, config(count)):
            return trio.lowlevel.current_statistics().tasks_living

    async with bounded():
        assert await tasks_with(100) == await tasks_with(1)


async def test_other_tasks_have_their_turn_while_many_endpoints_start(nc: Connection) -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async with bounded(), anyio.create_task_group() as tasks:
        tasks.start_soon(other)
        await anyio.lowlevel.checkpoint()
        before = turns
        async with natsery.serve(nc, config(640)):
            assert turns - before >= 10
        tasks.cancel_scope.cancel()


async def test_the_statistics_on_the_wire_are_those_of_the_service(nc: Connection) -> None:
    """The reply is not written from the frozen copies that ``stats`` returns, and has to say the same."""
    details = ServiceConfig("many", "1.0.0", endpoints=endpoints(3), stats_details=True, metadata={"a": "b"})
    for configured in (config(3), details):
        async with bounded(), natsery.serve(nc, configured) as service:
            await nc.request("many.1")
            reply = await nc.request("$SRV.STATS.many")
            assert reply.data == service.stats().to_json()
