"""Links on which nothing arrives any more in one direction, while they are idle and while messages come."""

from __future__ import annotations

import re

import anyio
import pytest

import natsery

from ..bounds import bounded
from ..proxy import open_proxy
from ..server import NatsServer
from .scripted import Peer, scripted_server
from .tools import PINGS, QUICK, lose_patience

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("direction", ["to server", "to client"])
@pytest.mark.parametrize("load", ["idle", "messages come", "messages are sent"])
async def test_a_link_that_is_dead_in_one_direction_is_left(nats_server: NatsServer, direction: str, load: str) -> None:
    """As long as messages came, a link on which nothing reached the server was taken for alive."""

    async def publish(nc: natsery.NativeConnection, subject: str) -> None:
        while True:
            await nc.publish(subject, bytes(1_000))
            await anyio.sleep(0.001)

    with NatsServer() as other:
        async with bounded(), open_proxy(nats_server.port) as proxy:
            async with (
                natsery.connect(nats_server.url) as sender,
                natsery.connect([proxy.url, other.url], shuffle=False, **PINGS, **QUICK) as nc,
                anyio.create_task_group() as tasks,
            ):
                await nc.add_subscription("news", lambda _: None)
                await nc.flush()
                if load == "messages come":
                    tasks.start_soon(publish, sender, "news")
                elif load == "messages are sent":
                    tasks.start_soon(publish, nc, "void")
                await nc.rtt()
                with nc.events() as events:
                    proxy.dead.add(direction)
                    proxy.sent.clear()
                    lose_patience(nc)
                    async for event in events:
                        if event.kind is natsery.EventKind.DISCONNECTED:
                            break
                assert re.search(r"has not answered \d+ PINGs", str(event.error))
                # Two without an answer, and a few that were on the way.
                assert proxy.verbs().count("PING") < 10
                tasks.cancel_scope.cancel()


async def test_a_link_that_answers_is_kept() -> None:
    """In one event loop with the client, a server on a busy machine answers within a few turns, if late."""
    answered = 0
    is_enough = anyio.Event()

    async def script(peer: Peer) -> None:
        nonlocal answered
        await peer.greet()
        while True:
            await peer.line_of(b"PING")
            await peer.send(b"PONG\r\n")
            answered += 1
            if answered == 100:
                is_enough.set()

    async with bounded(), scripted_server(script) as url:
        async with natsery.connect(url, ping_interval=0.001, max_outstanding_pings=25) as nc:
            with nc.events() as events:
                await is_enough.wait()
                assert [event.kind for event in events._pending] == [natsery.EventKind.CONNECTED]
