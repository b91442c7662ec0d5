"""How a stop can be watched, and hurried."""

from __future__ import annotations

import math

import anyio
import pytest

import natsery
from natsery.abc import Connection

from .bounds import bounded
from .calc_service import add, ask, config

pytestmark = pytest.mark.anyio


class Held:
    """A handler that answers when it is let go."""

    def __init__(self) -> None:
        self.entered = 0
        self.entry = anyio.Event()
        self.go = anyio.Event()

    async def hold(self, request: natsery.Request) -> bytes:
        self.entered += 1
        self.entry.set()
        await self.go.wait()
        return b"held"


async def until_pending(service: natsery.Service, count: int) -> None:
    while service.pending != count:
        await anyio.wait_all_tasks_blocked()


async def test_pending_counts_what_waits_and_what_handlers_have_in_hand(nc: Connection) -> None:
    held, replies = Held(), []
    holding = natsery.EndpointConfig("hold", held.hold, concurrency=2)
    async with bounded(), anyio.create_task_group() as tasks:
        async with natsery.serve(nc, config(holding, add)) as service:
            assert service.pending == 0
            for _ in range(5):
                tasks.start_soon(ask, nc, "hold", replies)
            await until_pending(service, 5)
            assert held.entered == 2
            assert [endpoint.pending for endpoint in service.endpoints] == [5, 0]
            held.go.set()
            await until_pending(service, 0)
        assert service.pending == 0
    assert replies == [b"held"] * 5


async def test_a_stop_under_way_can_be_hurried_and_every_request_gets_its_answer(nc: Connection) -> None:
    held, replies = Held(), []
    async with bounded(), anyio.create_task_group() as tasks:
        async with natsery.serve(nc, config(held.hold), grace=math.inf) as service:
            for _ in range(3):
                tasks.start_soon(ask, nc, "hold", replies)
            await until_pending(service, 3)
            service.stop()
            tasks.start_soon(hurry, service)
            await service.wait_stopped()
        assert service.pending == 0
    assert replies == ["503:Service Stopping"] * 3
    assert service.stats().endpoints[0].failures == {"stopping": 3}


async def hurry(service: natsery.Service) -> None:
    service.stop(grace=0)


async def test_stop_can_bring_a_grace_of_its_own_and_cannot_lengthen_one(nc: Connection) -> None:
    held, replies = Held(), []
    async with bounded(), anyio.create_task_group() as tasks:
        async with natsery.serve(nc, config(held.hold), grace=math.inf) as service:
            tasks.start_soon(ask, nc, "hold", replies)
            await held.entry.wait()
            service.stop(grace=0)
            service.stop(grace=math.inf)
            await service.wait_stopped()
        service.stop(grace=1)
    assert replies == ["503:Service Stopping"]


async def test_a_grace_that_is_none_is_refused_and_nothing_stops(nc: Connection) -> None:
    async with bounded(), natsery.serve(nc, config(add)) as service:
        with pytest.raises(ValueError, match=r"^grace: "):
            service.stop(grace=-1)
        assert (await nc.request("add", b"1+2")).data == b"3"
