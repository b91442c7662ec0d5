"""A backlog in a stream, or a loop that only sends, keeps neither other tasks nor deadlines from their turn.

Everything is counted in items; no test looks at a clock.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import anyio
import pytest

import natsery
from natsery.abc import Connection
from natsery.testing import MemoryBroker

from .bounds import bounded
from .calc_service import config
from .conftest import BACKENDS, open_connection
from .server import NatsServer

pytestmark = pytest.mark.anyio

BACKLOG = 100_000

ITEMS_WITHOUT_A_TURN = 64

SETTINGS = [
    # Without asyncio's debug mode, in which this takes minutes.
    pytest.param((("asyncio", {}) if name == "asyncio" else backend, transport), id=f"{name}-{transport}")
    for name, backend in BACKENDS.items()
    for transport in ("native", "adapted", "bridged", "memory")
    if (name, transport) != ("trio", "adapted")
]


@pytest.fixture(params=SETTINGS)
def setting(request: pytest.FixtureRequest) -> object:
    return request.param


@pytest.fixture
async def nc(transport: str, nats_server: NatsServer) -> AsyncIterator[Connection]:
    async with AsyncExitStack() as stack:
        if transport == "memory":
            broker = await stack.enter_async_context(MemoryBroker())
            yield await stack.enter_async_context(broker.connect())
        else:
            yield await stack.enter_async_context(open_connection(transport, nats_server.url))


async def assert_fair(take: Callable[[], Awaitable[object]], count: int) -> None:
    """Take or send so many items, then some more under a deadline that passes: a second task runs, the deadline is heard."""
    turns = 0
    most = since_turn = 0

    async def other() -> None:
        nonlocal turns, since_turn
        while True:
            turns += 1
            since_turn = 0
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(other)
        for _ in range(count):
            await take()
            since_turn += 1
            most = max(most, since_turn)
        tasks.cancel_scope.cancel()
    # trio runs the tasks of one turn in any order, so that two turns may lie between two of a task's own.
    assert most <= 2 * ITEMS_WITHOUT_A_TURN + 1
    assert turns >= count / (2 * ITEMS_WITHOUT_A_TURN)
    taken = 0
    with anyio.CancelScope() as scope:
        scope.deadline = anyio.current_time()
        while True:
            await take()
            taken += 1
    assert scope.cancelled_caught
    assert taken <= 2 * ITEMS_WITHOUT_A_TURN + 1


async def test_a_backlog_of_messages_that_were_published_in_a_loop(nc: Connection) -> None:
    async with bounded(), nc.subscribe("backlog", max_pending=2 * BACKLOG) as messages:
        await assert_fair(lambda: nc.publish("backlog", b"x"), BACKLOG)
        await nc.flush()
        await assert_fair(messages.receive, BACKLOG - 1_000)
        assert messages.dropped == 0


async def test_a_backlog_of_replies_that_were_responded_in_a_loop(nc: Connection) -> None:
    count = 60_000  # what a stream of replies keeps is limited

    async def respond(request: natsery.Request) -> None:
        await assert_fair(lambda: request.respond(b"x"), count)

    async with bounded(), natsery.serve(nc, config(respond)) as service:
        async with natsery.ServiceClient(nc).request_many("respond", wait=120) as replies:
            while service.endpoints[0].stats().num_requests == 0:
                await anyio.lowlevel.checkpoint()
            await nc.flush()
            await assert_fair(replies.receive, count - 1_000)


async def test_a_backlog_of_answers_to_a_discovery(nc: Connection) -> None:
    count = 20_000
    answers = [natsery.ServicePing(name="calc", id=f"x{i}", version="1.0.0").to_json() for i in range(count)]

    async with bounded(), nc.subscribe("$SRV.PING") as pings:
        async with natsery.ServiceClient(nc).discover("PING", wait=120, stall=None) as replies:
            ping = await pings.receive()
            for answer in answers:
                await nc.publish(ping.reply, answer)
            await nc.flush()
            await assert_fair(replies.receive, count - 1_000)


async def test_a_backlog_of_events(nc: Connection) -> None:
    with nc.events() as events:
        for _ in range(1_023):
            nc._emit(natsery.ConnectionEvent(natsery.EventKind.ERROR))  # type: ignore[attr-defined]  # as it does itself
        async with bounded():
            await assert_fair(events.receive, 700)
