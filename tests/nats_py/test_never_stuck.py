"""A nats-py client that neither reconnects nor closes: natsery notices, and ends that."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

import anyio
import anyio.lowlevel
import nats
import pytest
from nats.aio.client import Client

import natsery
from natsery._nats_py import _safe_client
from natsery.abc import Connection

from ..bounds import bounded
from ..calc_service import add, config
from ..conftest import BACKENDS, open_connection
from ..server import NatsServer

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["adapted", "bridged"])
def setting(request: pytest.FixtureRequest) -> object:
    return ("asyncio", {}), request.param


LOOPS = {"asyncio": ("asyncio", {}), **{name: BACKENDS[name] for name in ("uvloop",) if name in BACKENDS}}
QUICK = {"reconnect_time_wait": 0.01, "max_reconnect_attempts": 2}


async def test_a_client_that_gives_up_with_messages_unsent_is_closed(
    transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nats-py's reconnect task died of a ``ConnectionResetError`` when it wrote them to the dead socket."""
    monkeypatch.setattr(_safe_client, "CLOSE_SECONDS", 0.1)
    with NatsServer() as server:
        async with bounded(), open_connection(transport, server.url, **QUICK) as nc:
            with pytest.raises(natsery.ConnectionClosedError):
                async with natsery.serve(nc, config(add)):
                    with nc.events() as events:
                        server.kill()
                        async for event in events:
                            if event.kind is natsery.EventKind.DISCONNECTED:
                                break
                    with suppress(natsery.ConnectionClosedError):  # where it gives up before they are sent
                        for _ in range(10):
                            await nc.publish("x", b"1")
                    await anyio.sleep_forever()
            assert nc.is_closed
            assert not nc.is_connected


def loop_of(nc: Connection) -> Callable[..., Awaitable[object]]:
    """Runs ``fn(client)`` where the client lives."""

    async def call(fn: Callable[[Client], Awaitable[object]]) -> object:
        return await fn(nc.client)

    return nc.call if isinstance(nc, natsery.BridgedConnection) else call


async def lose(client: Client, raised: Exception) -> None:
    """Have the client lose its connection, as it notices, while it writes."""

    async def drain() -> None:
        raise raised

    client._transport.drain = drain
    await client._send_command(b"PUB x 1\r\n1\r\n")


async def test_a_close_that_fails_half_way_ends_the_service(
    transport: str, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server complained and closed while replies were written: no callback was called, and the service stayed."""
    monkeypatch.setattr(_safe_client, "CLOSE_SECONDS", 0.1)

    async def complain(client: Client) -> None:
        await lose(client, ConnectionResetError("Connection lost"))
        await client._process_err("'slow consumer'")

    async with bounded(), open_connection(transport, nats_server.url, **QUICK) as nc:
        with pytest.raises(natsery.ConnectionClosedError):
            async with natsery.serve(nc, config(add)):
                await loop_of(nc)(complain)
                await anyio.sleep_forever()


async def die(client: Client) -> None:
    """Have the client's reconnecting fail once."""
    attempt = client._attempt_reconnect

    async def fail() -> None:
        client._attempt_reconnect = attempt
        client._reading_task.cancel()
        raise ConnectionResetError("Connection lost")

    client._attempt_reconnect = fail
    await client.force_reconnect()


async def test_a_reconnect_task_that_died_is_started_again(transport: str, nats_server: NatsServer) -> None:
    async with bounded(), open_connection(transport, nats_server.url, **QUICK) as nc:
        async with natsery.serve(nc, config(add)):
            with nc.events() as events:
                await loop_of(nc)(die)
                async for event in events:
                    if event.kind is natsery.EventKind.RECONNECTED:
                        break
            assert (await nc.request("add", b"1+1")).data == b"2"


async def test_a_client_that_is_closed_before_it_reconnects_stays_closed(nats_server: NatsServer) -> None:
    """It was connected again behind the back of the program."""
    async with bounded():
        client = await nats.connect(nats_server.url, reconnect_time_wait=0.05)
        async with natsery.adapt(client) as nc:
            with nc.events() as events:
                await die(client)
                async for event in events:
                    if event.kind is natsery.EventKind.ERROR:
                        break
                await client.close()
            assert nc.is_closed
            assert client.is_closed
            assert client._reconnection_task.done()


async def test_a_client_whose_block_ends_before_it_reconnects_does_reconnect(nats_server: NatsServer) -> None:
    """It was left neither connected nor closed."""
    async with bounded():
        client = await nats.connect(nats_server.url, reconnect_time_wait=0.05)
        async with natsery.adapt(client) as nc:
            with nc.events() as events:
                await die(client)
                async for event in events:
                    if event.kind is natsery.EventKind.ERROR:
                        break
        await client._reconnection_task
        assert client.is_connected
        await client.close()


async def test_a_client_without_reconnecting_is_closed_when_its_reader_has_ended(
    transport: str, nats_server: NatsServer
) -> None:
    """It counted as closed and stayed connected, and the server went on sending requests to it."""

    async def end_reader(client: Client) -> None:
        client._reading_task.cancel()

    async with bounded(), open_connection(transport, nats_server.url, allow_reconnect=False) as nc:
        with pytest.raises(natsery.ConnectionClosedError):
            async with natsery.serve(nc, config(add)):
                await loop_of(nc)(end_reader)
                await anyio.sleep_forever()
        assert nc.is_closed
        assert nc.client.is_closed
        assert not nc.is_connected


@pytest.mark.parametrize("allow_reconnect", [True, False])
async def test_a_changed_password_ends_the_service(transport: str, allow_reconnect: bool) -> None:
    """nats-py closes for good at any complaint of a server but a stale connection."""
    users = "authorization {{ users: [{{ user: u, password: {} }}, {{ user: v, password: v }}] }}"
    with NatsServer(users.format("p")) as server:
        login = {"user": "u", "password": "p", "allow_reconnect": allow_reconnect}
        async with bounded(), natsery.connect(server.url, user="v", password="v") as caller:
            async with (
                open_connection(transport, server.url, **QUICK, **login) as nc,
                anyio.create_task_group() as load,
            ):

                async def ask() -> None:
                    while True:
                        await caller.publish("add", b"1+1", reply="answers")

                with pytest.raises(natsery.ConnectionClosedError):
                    async with natsery.serve(nc, config(add)):
                        load.start_soon(ask)
                        server.reload(users.format("q"))
                        await anyio.sleep_forever()
                load.cancel_scope.cancel()


@pytest.mark.parametrize("setting", [(loop, "adapted") for loop in LOOPS.values()], ids=[*LOOPS])
async def test_a_socket_that_is_lost_and_not_yet_missed(transport: str, nats_server: NatsServer) -> None:
    """On uvloop, ``flush`` raised uvloop's ``RuntimeError``, and answers were lost on asyncio."""
    async with bounded(), open_connection(transport, nats_server.url, **QUICK) as nc:
        assert isinstance(nc, natsery.AdaptedConnection)
        async with nc.subscribe("answers") as answers:
            nc._safe_client.writer.abort()
            await anyio.lowlevel.checkpoint()
            assert nc.is_connected
            assert not nc._safe_client.writer.write_nowait(b"PUB answers 1\r\n1\r\n", 1, 1)
            assert not await nc._safe_client._ping()
            await nc.flush()
            await nc.publish("answers", b"2")
            assert (await answers.receive()).data == b"2"
