"""Links over which nothing comes, or nothing goes: nats-py's pings find out, and the client comes back."""

from __future__ import annotations

import anyio
import pytest

import natsery
from natsery._nats_py import _safe_client
from natsery.abc import Connection

from ..bounds import bounded
from ..calc_service import add, config
from ..conftest import open_connection
from ..proxy import open_proxy
from ..server import NatsServer
from .filling import filling

pytestmark = pytest.mark.anyio

PINGS = {"ping_interval": 0.05, "max_outstanding_pings": 1_000_000}
"""To lose patience when the test says so: a busy machine answers late."""

QUICK = {"reconnect_time_wait": 0.05, "max_reconnect_attempts": -1}


@pytest.fixture(params=[("asyncio", "adapted"), ("asyncio", "bridged"), ("trio", "bridged")], ids="-".join)
def setting(request: pytest.FixtureRequest) -> object:
    backend, transport = request.param
    return (backend, {}), transport


async def wait_for(events: natsery.Events, kind: natsery.EventKind) -> None:
    async for event in events:
        if event.kind is kind:
            return


async def lose_connection(nc: Connection, events: natsery.Events) -> None:
    """Have a client with ``PINGS`` take its link for dead at the third PING without an answer, and wait until it does.

    Then it tries again often, each time for a short while, until it can connect.
    """
    options = nc.client.options
    options["max_outstanding_pings"] = 2
    options["connect_timeout"] = 0.2
    await wait_for(events, natsery.EventKind.DISCONNECTED)
    options["max_outstanding_pings"] = PINGS["max_outstanding_pings"]


@pytest.mark.parametrize("direction", ["to server", "to client"])
async def test_a_link_that_is_dead_in_one_direction(transport: str, nats_server: NatsServer, direction: str) -> None:
    async with bounded(), open_proxy(nats_server.port) as proxy:
        async with open_connection(transport, proxy.url, **PINGS, **QUICK) as nc, natsery.serve(nc, config(add)):
            with nc.events() as events:
                proxy.dead.add(direction)
                await lose_connection(nc, events)
                proxy.dead.clear()
                await wait_for(events, natsery.EventKind.RECONNECTED)
            assert (await nc.request("add", b"1+1")).data == b"2"


async def test_an_attempt_that_fails_leaves_no_socket(transport: str, nats_server: NatsServer) -> None:
    """nats-py forgets it unclosed, and the server keeps a connection for each attempt."""
    async with bounded(), open_proxy(nats_server.port) as proxy:
        async with open_connection(transport, proxy.url, **PINGS, **QUICK) as nc:
            with nc.events() as events:
                proxy.dead.add("to client")
                await lose_connection(nc, events)
                for _ in range(5):
                    await wait_for(events, natsery.EventKind.ERROR)
                while proxy.connections > 1:
                    await anyio.sleep(0.001)
                proxy.dead.clear()
                await wait_for(events, natsery.EventKind.RECONNECTED)
        while proxy.connections:
            await anyio.sleep(0.001)


async def test_a_server_that_freezes_with_the_buffer_full(
    transport: str, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nats-py closes its old socket first, and asyncio does not close one before all has left it: it never came back."""
    monkeypatch.setattr(_safe_client, "CLOSE_SECONDS", 0.1)
    with NatsServer() as frozen:
        async with bounded(), natsery.connect(nats_server.url) as caller:
            urls = [frozen.url, nats_server.url]
            options = {**PINGS, **QUICK, "dont_randomize": True}
            async with open_connection(transport, urls, **options) as nc, natsery.serve(nc, config(add)):
                with nc.events() as events:
                    frozen.freeze()
                    async with filling(nc):
                        await lose_connection(nc, events)
                        await wait_for(events, natsery.EventKind.RECONNECTED)
                await nc.flush()
                assert (await caller.request("add", b"1+1")).data == b"2"
        frozen.thaw()
