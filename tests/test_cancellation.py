"""A cancellation at every point where ``serve`` can be cancelled leaves nothing, and a connection that works."""

from __future__ import annotations

from functools import partial

import anyio
import pytest

import natsery
from natsery.abc import Connection

from .bounds import bounded
from .calc_service import add, config
from .schedules import CancelledAt
from .server import NatsServer, nothing_left

pytestmark = pytest.mark.anyio


async def test_cancelling_serve_at_any_point(nc: Connection, nats_server: NatsServer) -> None:

    async def use() -> None:
        async with natsery.serve(nc, config(add), grace=0.2) as service:
            assert (await nc.request("add", b"1+1")).data == b"2"
            await service.add_endpoint(natsery.EndpointConfig("more", add))

    async with bounded():
        for n in range(1, 1_000):
            with anyio.CancelScope() as scope:
                run = CancelledAt(use(), n, scope)
                await run
            await nc.flush()
            assert await nothing_left(nc, nats_server)
            if run.n > 0:
                break
    assert n > 5


async def test_stop_from_a_plain_callback_of_the_event_loop(nc: Connection) -> None:
    """Signal handlers of asyncio run outside of any task, where anyio knows of no event loop."""
    import sniffio

    async with bounded(), natsery.serve(nc, config(add)) as service:
        if sniffio.current_async_library() == "trio":
            import trio

            trio.lowlevel.current_trio_token().run_sync_soon(service.stop)
        else:
            import asyncio
            from contextvars import Context

            loop = asyncio.get_running_loop()
            loop.call_soon(service.stop, context=Context())  # as asyncio.run has it, and another thread
            loop.call_soon(partial(service.stop, grace=0), context=Context())
        await service.wait_stopped()


async def test_leaving_while_cancelled_twice_drains(nc: Connection) -> None:
    started, release = anyio.Event(), anyio.Event()

    async def slow(request: natsery.Request) -> bytes:
        started.set()
        await release.wait()
        return b"done"

    replies: list[bytes] = []

    async def ask() -> None:
        replies.append((await nc.request("slow")).data)

    async def run(outer: anyio.CancelScope, inner: anyio.CancelScope) -> None:
        with outer, inner:
            async with natsery.serve(nc, config(slow)) as service:
                live.set()
                await service.wait_stopped()

    async with bounded(), anyio.create_task_group() as tasks:
        outer, inner, live = anyio.CancelScope(), anyio.CancelScope(), anyio.Event()
        tasks.start_soon(run, outer, inner)
        await live.wait()
        tasks.start_soon(ask)
        await started.wait()
        inner.cancel()
        await anyio.lowlevel.checkpoint()
        outer.cancel()
        await nc.flush()
        release.set()
    assert replies == [b"done"]
