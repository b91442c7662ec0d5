"""Links on which nothing arrives any more in one direction, while they are idle and while messages come."""

from __future__ import annotations

import anyio
import pytest

import natsery

from ..bounds import bounded
from ..proxy import open_proxy
from ..server import NatsServer

pytestmark = pytest.mark.anyio

INTERVAL = 0.05


@pytest.mark.parametrize("direction", ["to server", "to client"])
@pytest.mark.parametrize("load", ["idle", "messages come", "messages are sent"])
async def test_a_link_that_is_dead_in_one_direction_is_left(nats_server: NatsServer, direction: str, load: str) -> None:
    """As long as messages came, a link on which nothing reached the server was taken for alive."""

    async def publish(nc: natsery.NativeConnection, subject: str) -> None:
        while True:
            await nc.publish(subject, bytes(1_000))
            await anyio.sleep(0.001)

    with NatsServer() as other:
        async with bounded(), open_proxy(nats_server.port) as proxy, anyio.create_task_group() as tasks:
            async with (
                natsery.connect(nats_server.url) as sender,
                natsery.connect(
                    [proxy.url, other.url], shuffle=False, ping_interval=INTERVAL, reconnect_wait=0.01
                ) as nc,
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
                    async for event in events:
                        if event.kind is natsery.EventKind.DISCONNECTED:
                            break
                assert "has not answered 2 PINGs" in str(event.error)
                # Two without an answer, and at most one that was on the way.
                assert proxy.verbs().count("PING") <= 3
                tasks.cancel_scope.cancel()


async def test_a_link_that_answers_is_kept(nats_server: NatsServer) -> None:
    async with bounded(), open_proxy(nats_server.port) as proxy:
        async with natsery.connect(proxy.url, ping_interval=INTERVAL) as nc:
            with nc.events() as events:
                while proxy.verbs().count("PING") < 12:
                    await nc.flush()
                    await anyio.sleep(INTERVAL)
                assert [event.kind for event in events._pending] == [natsery.EventKind.CONNECTED]
