"""How a trio project tests its service with pytest-trio."""

from __future__ import annotations

import pytest
import trio

import natsery

from .bounds import HANG_SECONDS
from .server import NatsServer


@pytest.mark.trio
async def test_a_service_under_pytest_trio(nats_server: NatsServer, nursery: trio.Nursery) -> None:
    async def greet(request: natsery.Request) -> bytes:
        return b"hello " + request.data

    config = natsery.ServiceConfig("greeter", "1.0.0", endpoints=[greet])
    async with natsery.connect(nats_server.url) as nc:
        service = await nursery.start(natsery.serve_forever, nc, config)
        with trio.fail_after(HANG_SECONDS):
            assert (await nc.request("greet", b"you")).data == b"hello you"
        service.stop()
        await service.wait_stopped()
