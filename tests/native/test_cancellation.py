"""Whatever is cancelled, whenever: afterwards the connection answers."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import anyio
import pytest

import natsery

from ..bounds import bounded
from ..calc_service import add, config
from ..conftest import QUICK_BACKENDS
from ..schedules import CancelledAt
from ..server import NatsServer
from .scripted import Peer, scripted_server

pytestmark = pytest.mark.anyio

SCHEDULES = 1_000


async def read_some(nc: natsery.NativeConnection) -> None:
    async with nc.subscribe("noise") as messages:
        await nc.publish("noise", b"1")
        await messages.receive()


async def read_events(nc: natsery.NativeConnection) -> None:
    with nc.events() as events:
        async for _ in events:
            await nc.flush()
            return


async def subscribe_and_leave(nc: natsery.NativeConnection) -> None:
    subscription = await nc.add_subscription("noise", lambda message: None)
    try:
        await nc.flush()
    finally:
        await subscription.unsubscribe()
    await nc.flush()


async def serve_shortly(nc: natsery.NativeConnection) -> None:
    async with natsery.serve(nc, config(natsery.EndpointConfig("brief", add)), grace=0.2):
        await nc.request("brief", b"1+1")


OPERATIONS: list[Callable[[natsery.NativeConnection], Awaitable[object]]] = [
    lambda nc: nc.publish("noise", bytes(1000)),
    lambda nc: nc.request("add", b"1+1"),
    lambda nc: nc.flush(),
    lambda nc: nc.rtt(),
    read_some,
    read_events,
    subscribe_and_leave,
    serve_shortly,
]


@pytest.mark.parametrize("anyio_backend", QUICK_BACKENDS)
async def test_a_thousand_random_schedules(nats_server: NatsServer) -> None:
    chance = random.Random(2026)
    async with bounded(), natsery.connect(nats_server.url) as nc:
        async with natsery.serve(nc, config(add)):
            for _ in range(SCHEDULES):
                async with anyio.create_task_group() as tasks:
                    for operation in chance.choices(OPERATIONS, k=chance.randint(1, 3)):
                        tasks.start_soon(cancelled_at, operation, nc, chance.randint(1, 12))
                assert (await nc.request("add", b"1+1")).data == b"2"
            await nc.flush()
            assert len(nc._subscriptions.by_sid) == 11  # the service's ten, and the inbox of requests
            assert not nc._requests._pending


async def cancelled_at(
    operation: Callable[[natsery.NativeConnection], Awaitable[object]], nc: natsery.NativeConnection, n: int
) -> None:
    async def operate() -> None:
        await operation(nc)

    with anyio.CancelScope() as scope:
        await CancelledAt(operate(), n, scope)


async def test_cancelling_connect_at_any_point(nats_server: NatsServer) -> None:
    async def use() -> None:
        async with natsery.connect(nats_server.url) as nc:
            await nc.flush()

    async with bounded():
        for n in range(1, 1_000):
            with anyio.CancelScope() as scope:
                run = CancelledAt(use(), n, scope)
                await run
            if run.n > 0:  # the whole block ran before the n-th time came
                break
        else:
            raise AssertionError("it never ran to its end")
        assert n > 5
        async with natsery.connect(nats_server.url) as nc:
            await nc.flush()


@pytest.mark.parametrize("close", ["aclose", "drain"])
async def test_cancelling_the_close_at_any_point(nats_server: NatsServer, close: str) -> None:
    async with bounded():
        for n in range(1, 1_000):
            async with natsery.connect(nats_server.url) as nc:
                await nc.add_subscription("a", lambda message: None)
                with anyio.CancelScope() as scope:
                    run = CancelledAt(getattr(nc, close)(), n, scope)
                    await run
                assert nc.is_closed
                with pytest.raises(natsery.ConnectionClosedError):
                    await nc.flush()
            if run.n > 0:
                break
        else:
            raise AssertionError("it never ran to its end")


async def test_a_cancelled_request_drops_its_late_reply() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        sid = (await peer.line_of(b"SUB")).split()[-1]
        reply = (await peer.line_of(b"PUB")).split()[2]
        await peer.line_of(b"PUB late")
        await peer.send(b"MSG %b %b 1\r\nx\r\n" % (reply, sid))
        await peer.answer_pings()

    async with bounded(), scripted_server(script) as url, natsery.connect(url) as nc:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(nc.request, "slow")
                await anyio.wait_all_tasks_blocked()
                scope.cancel()
        await nc.publish("late")
        await nc.flush()
        assert nc.statistics().in_messages == 1


async def test_cancelling_the_block_sends_what_was_published(nats_server: NatsServer) -> None:
    async with bounded(), natsery.connect(nats_server.url) as other, other.subscribe("last") as messages:
        with anyio.CancelScope() as scope:
            async with natsery.connect(nats_server.url) as nc:
                await nc.publish("last", b"words")
                scope.cancel()
                await anyio.sleep_forever()
        assert (await messages.receive()).data == b"words"
