"""A nats-py client at its edges: draining, half dead, with another transport, or left while something waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import anyio
import anyio.lowlevel
import nats
import pytest
from nats.aio.client import Client
from nats.aio.transport import TcpTransport

import natsery
from natsery import EventKind

from ..bounds import bounded
from ..calc_service import add, config
from ..server import NatsServer
from .filling import stop_draining

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> object:
    return "asyncio", {}


@pytest.fixture
async def client(nats_server: NatsServer) -> AsyncIterator[Client]:
    client = await nats.connect(nats_server.url, reconnect_time_wait=0.01)
    yield client
    if not client.is_closed:
        await client.close()


async def fill(nc: natsery.AdaptedConnection) -> None:
    """Send until senders have to wait."""
    while nc.client.pending_data_size <= nc.client._max_pending_size:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(nc.publish, "x", bytes(500_000))
                await anyio.wait_all_tasks_blocked()
                scope.cancel()


# Drained


async def test_what_is_asked_of_a_client_that_drains(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    is_flushed, may_close = anyio.Event(), anyio.Event()
    flush = client.flush

    async def flush_late() -> None:
        is_flushed.set()
        await may_close.wait()
        await flush()

    monkeypatch.setattr(client, "flush", flush_late)
    async with bounded(), natsery.adapt(client) as nc, anyio.create_task_group() as tasks:
        await nc.add_subscription("news", print)
        release = nc._hold_open(lambda: None)
        tasks.start_soon(client.drain)
        while not client.is_draining:
            await anyio.lowlevel.checkpoint()
        with pytest.raises(natsery.ConnectionClosedError, match=r"nats-py cannot subscribe: .*draining"):
            await nc.add_subscription("more", print)
        await nc.publish("still")
        release()
        await is_flushed.wait()
        with pytest.raises(natsery.ConnectionClosedError, match="the nats-py client is draining"):
            await nc.publish("late")
        may_close.set()


async def test_a_bridge_tells_a_subscription_that_its_client_drains(nats_server: NatsServer) -> None:
    errors: list[natsery.NatseryError] = []
    has_failed = anyio.Event()

    def on_error(error: natsery.NatseryError) -> None:
        errors.append(error)
        has_failed.set()

    async def drain(client: Client) -> None:
        tasks.append(asyncio.ensure_future(client.drain()))
        while not client.is_draining:
            await asyncio.sleep(0)

    tasks: list[asyncio.Future[None]] = []
    async with bounded(), natsery.bridge(nats_server.url) as nc:
        await nc.add_subscription("news", print)
        release = nc._hold_open(lambda: None)
        await nc.call(drain)
        late = await nc.add_subscription("more", print, on_error=on_error)
        await has_failed.wait()
        assert isinstance(errors[0], natsery.ConnectionClosedError)
        await late.unsubscribe()
        release()
        await nc.wait_closed()


async def test_a_drain_that_the_program_cancels_at_its_end(client: Client) -> None:
    async with bounded(), natsery.adapt(client) as nc:
        await nc.add_subscription("news", print)
        release = nc._hold_open(lambda: None)
        draining = asyncio.ensure_future(client.drain())
        await asyncio.sleep(0)
        (inner,) = client.drain.__self__._tasks
        await asyncio.sleep(0)
        while not inner.done():
            inner.cancel()
            await asyncio.sleep(0)
            release()
            release = lambda: None  # noqa: E731
        await asyncio.wait((draining,))


async def test_a_drain_of_the_programs_own_comes_back(client: Client) -> None:
    async def drain() -> None:
        await Client.drain(client)

    client.drain = drain
    async with bounded(), natsery.adapt(client):
        assert client.drain is not drain
    assert client.drain is drain


# Left or lost while something waits


async def test_leaving_wakes_who_waits_for_room(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    async def send(nc: natsery.AdaptedConnection) -> None:
        await nc.publish("x", bytes(500_000))
        sent.set()

    async def subscribe(nc: natsery.AdaptedConnection) -> None:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            await nc.add_subscription("given.up", print)

    sent = anyio.Event()
    scopes: list[anyio.CancelScope] = []
    async with bounded(), anyio.create_task_group() as tasks:
        async with natsery.adapt(client) as nc:
            resume = stop_draining(client, monkeypatch)
            await fill(nc)
            tasks.start_soon(send, nc)
            tasks.start_soon(subscribe, nc)
            await anyio.wait_all_tasks_blocked()
            scopes[0].cancel()
            await anyio.wait_all_tasks_blocked()
            assert not sent.is_set()
        await sent.wait()
        resume()
    assert client.is_connected
    await client.flush()


@pytest.mark.parametrize("is_given_up", [False, True])
async def test_leaving_as_something_begins_to_wait_cancels_nobody_else(client: Client, *, is_given_up: bool) -> None:
    """The task that subscribed got a ``CancelledError`` that nobody had sent to it."""

    async def send(nc: natsery.AdaptedConnection) -> None:
        await nc.publish("x", b"1")
        ended.append("sent")

    async def subscribe(nc: natsery.AdaptedConnection) -> None:
        with scope, pytest.raises(natsery.ConnectionClosedError, match="was left meanwhile"):
            await nc.add_subscription("late", print)
        ended.append("subscribed")

    ended: list[str] = []
    scope = anyio.CancelScope()
    async with bounded():
        async with anyio.create_task_group() as tasks:
            async with natsery.adapt(client) as nc:
                client._max_pending_size = 1  # whatever is sent has to wait
                tasks.start_soon(subscribe, nc)
                await asyncio.sleep(0)
                tasks.start_soon(send, nc)
                await asyncio.sleep(0)
                if is_given_up:
                    scope.cancel()
        assert sorted(ended) == ["sent", "subscribed"]
        assert not client._subs


async def test_a_subscription_that_waits_for_room_works_when_there_is_some(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    received: list[bytes] = []
    async with bounded(), natsery.adapt(client) as nc:
        resume = stop_draining(client, monkeypatch)
        await fill(nc)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(nc.add_subscription, "news", lambda message: received.append(message.data))
            await anyio.wait_all_tasks_blocked()
            resume()
        await nc.publish("news", b"x")
        await nc.flush()
    assert received == [b"x"]


async def test_a_subscription_that_has_ended_is_not_made_again(client: Client, nats_server: NatsServer) -> None:
    async with bounded(), natsery.adapt(client) as nc:
        with nc.events() as events:
            subscription = await nc.add_subscription("news", print)
            await nc.flush()
            await subscription.unsubscribe()  # and no fence, which would forget it
            await client.force_reconnect()
            async for event in events:
                if event.kind is EventKind.RECONNECTED:
                    break
        await nc.flush()
        assert nats_server.subscriptions(client.client_id) == []


async def test_a_fence_goes_on_with_the_next_connection(client: Client) -> None:
    """Also where this one is lost between the two round trips that it takes."""
    pongs = 0
    process_pong = client._process_pong

    async def process_and_lose() -> None:
        nonlocal pongs
        pongs += 1
        await process_pong()
        if pongs == 1:
            await client.force_reconnect()

    client._process_pong = process_and_lose
    async with bounded(), natsery.adapt(client) as nc:
        with nc.events() as events:
            await nc.flush()
            kinds = [event.kind for event in events._pending]
        assert EventKind.RECONNECTED in kinds
        assert pongs >= 3


@pytest.mark.parametrize("size", [1, 5_000_000], ids=["little", "much"])
async def test_a_flusher_that_has_died_with_its_socket_is_a_publish_error(
    client: Client, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    async def drain() -> None:
        raise ConnectionResetError("gone")

    client._max_payload = 2 * size
    async with bounded(), natsery.adapt(client) as nc:
        client._flusher_task.cancel()
        await asyncio.wait((client._flusher_task,))
        monkeypatch.setattr(client._transport, "drain", drain)
        with pytest.raises(natsery.PublishError, match="nats-py could not publish: gone"):
            await nc.publish("x", bytes(size))


# Another transport


class WebSocketLike(TcpTransport):
    """Works as nats-py's, and is of a kind that natsery knows nothing of."""


async def test_a_transport_that_is_not_known_is_left_to_nats_py(client: Client) -> None:
    client._transport.__class__ = WebSocketLike
    async with bounded(), natsery.adapt(client) as nc, natsery.serve(nc, config(add)):
        for number in range(3):
            assert (await nc.request("add", b"%d+1" % number)).data == b"%d" % (number + 1)
        await nc.flush()
        assert not nc._safe_client.writer.write_nowait(b"PUB x 0\r\n\r\n", 1, 0)
        nc._safe_client.writer.let_go()  # as a forked process does
        nc._safe_client.writer.abort()
        await nc.flush()
        assert not client._transport._io_writer.transport.is_closing()


async def test_adapt_says_what_it_takes() -> None:
    with pytest.raises(natsery.BackendMismatchError, match="adapt needs a nats-py client, not int"):
        async with natsery.adapt(1):
            pytest.fail("it has adapted a number")


async def test_a_connection_that_changes_as_a_flush_is_cancelled_wakes_the_others(client: Client) -> None:
    async with bounded(), natsery.adapt(client) as nc:
        cancelled, other = (asyncio.ensure_future(nc._safe_client._ping()) for _ in range(2))
        await asyncio.sleep(0)
        cancelled.cancel()
        nc._safe_client._wake_waiters()
        assert await other is False
        with pytest.raises(asyncio.CancelledError):
            await cancelled
