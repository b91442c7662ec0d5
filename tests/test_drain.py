"""A member of a queue group leaves and rejoins under load, and no request is lost."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

import natsery
from natsery.abc import Connection

from .bounds import bounded
from .calc_service import config
from .conftest import open_connection
from .processes import running
from .server import NatsServer

pytestmark = pytest.mark.anyio

REQUESTER = Path(__file__).parents[1] / "benchmarks" / "requester.py"
REJOINS = 15
REQUESTS_BETWEEN = 40


async def test_no_request_is_lost_when_members_come_and_go(
    nc: Connection, transport: str, nats_server: NatsServer
) -> None:
    handled = 0
    enough = anyio.Event()

    async def stay(request: natsery.Request) -> bytes:
        return request.data

    async def leave(request: natsery.Request) -> bytes:
        nonlocal handled
        handled += 1
        if handled >= REQUESTS_BETWEEN:
            enough.set()
        return request.data

    def member(handler: object) -> natsery.ServiceConfig:
        return config(natsery.EndpointConfig("echo", handler, subject="drained"))

    arguments = (str(REQUESTER), nats_server.url, "drained", "--count", "0", "--outstanding", "64")
    async with bounded(), open_connection(transport, nats_server.url) as other, natsery.serve(other, member(stay)):
        with running(*arguments) as requester:
            for _ in range(REJOINS):
                handled, enough = 0, anyio.Event()
                async with natsery.serve(nc, member(leave)):
                    await enough.wait()
            requester.terminate()
            await anyio.to_thread.run_sync(requester.wait)
    seen = json.loads(requester.output)
    assert seen["answered"] == seen["requests"] > REJOINS * REQUESTS_BETWEEN
    assert (seen["lost"], seen["unexpected"]) == (0, 0)
