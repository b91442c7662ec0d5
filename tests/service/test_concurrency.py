"""How many requests of an endpoint are under way at once."""

from __future__ import annotations

import anyio
import pytest

import natsery
from natsery.abc import Connection

from ..bounds import bounded
from ..calc_service import add, config

pytestmark = pytest.mark.anyio


async def test_four_requests_at_a_concurrency_of_four_run_at_once(nc: Connection) -> None:
    together = anyio.Event()
    inside = 0

    @natsery.endpoint(concurrency=4)
    async def meet(request: natsery.Request) -> bytes:
        nonlocal inside
        inside += 1
        if inside == 4:
            together.set()
        await together.wait()
        return b"met"

    async with bounded(), natsery.serve(nc, config(meet)), anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(nc.request, "meet")


async def test_no_more_than_the_concurrency_run_at_once(nc: Connection) -> None:
    most = inside = 0
    three_are_in = anyio.Event()

    @natsery.endpoint(concurrency=3)
    async def count(request: natsery.Request) -> bytes:
        nonlocal most, inside
        inside += 1
        most = max(most, inside)
        if inside == 3:
            three_are_in.set()
        await three_are_in.wait()
        await nc.flush()  # all requests have come, and none more may begin
        inside -= 1
        return b""

    async with bounded(), natsery.serve(nc, config(count)), anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(nc.request, "count")
    assert most == 3


async def test_the_tasks_of_handlers_have_their_endpoint_s_name(nc: Connection) -> None:
    async def name(request: natsery.Request) -> bytes:
        return str(anyio.get_current_task().name).encode()

    async with bounded(), natsery.serve(nc, config(name)):
        assert (await nc.request("name")).data == b"natsery endpoint name"


async def test_an_endpoint_that_was_removed_leaves_no_task(nc: Connection) -> None:
    async def added(request: natsery.Request) -> bytes:
        return b""

    async with bounded(), natsery.serve(nc, config(add)) as service:
        await nc.request("add", b"1+1")
        before = len(anyio.get_running_tasks())
        endpoint = await service.add_endpoint(added)
        await nc.request("added")
        await endpoint.remove()
        await anyio.wait_all_tasks_blocked()
        assert len(anyio.get_running_tasks()) == before
