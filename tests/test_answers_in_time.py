"""A requester has its answer before the service computes the next one, whatever its connection consists of."""

from __future__ import annotations

import anyio
import pytest

import natsery
from natsery.abc import Connection

from .bounds import bounded
from .raw_client import raw_client
from .server import NatsServer

pytestmark = pytest.mark.anyio

COUNT = 8


async def test_an_answer_arrives_while_the_next_one_is_computed(nc: Connection, nats_server: NatsServer) -> None:
    """Many requests at once to a handler that computes: through nats-py, the first one was answered when all were."""
    now, computed = 1, 0
    go_on = anyio.Event()

    async def compute(request: natsery.Request) -> bytes:
        nonlocal now, computed
        if not computed:
            await go_on.wait()
        else:
            requester.read_until(f"MSG {inbox}.{computed}")  # which keeps the event loop, as computing does
        computed += 1
        now += 1_000_000
        return request.data

    endpoint = natsery.EndpointConfig("compute", compute, subject=nc.new_inbox())
    clock = natsery.Clock(monotonic_ns=lambda: now)
    inbox = nc.new_inbox()
    with raw_client(nats_server.port) as requester:
        requester.log_in()
        requester.send(f"SUB {inbox}.* 1\r\n")
        async with bounded(), natsery.serve(nc, natsery.ServiceConfig("e", "1.0.0", endpoints=[endpoint], clock=clock)):
            for number in range(COUNT):
                requester.send(f"PUB {endpoint.subject} {inbox}.{number + 1} 1\r\nx\r\n")
            requester.send("PING\r\n")
            requester.read_until("PONG")
            await nc.flush()
            go_on.set()
        requester.read_until(f"MSG {inbox}.{COUNT}")
    assert computed == COUNT
