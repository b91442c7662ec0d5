"""Programs that run on asyncio without anyio's own `run`: nothing of the connection needs a task of anyio's around it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest

import natsery
from natsery import EventKind, Message

from ..conftest import uvloop
from ..server import NatsServer

PERMISSIONS = '{ user: u, password: p, permissions: { publish: { deny: "forbidden" } } }'


def run_eagerly(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner() as runner:
        runner.get_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]
        runner.run(main)


RUNS = [
    asyncio.run,
    *([uvloop.run] if uvloop is not None else []),
    *([run_eagerly] if sys.version_info >= (3, 12) else []),
]


async def use(url: str) -> None:
    both_are_in = asyncio.Event()
    inside = 0

    async def meet(request: natsery.Request) -> bytes:
        nonlocal inside
        inside += 1
        if inside == 2:
            both_are_in.set()
        await both_are_in.wait()
        await anyio.sleep(0)
        return request.data

    config = natsery.ServiceConfig("meet", "1.0.0", endpoints=[natsery.EndpointConfig("meet", meet, concurrency=2)])
    async with asyncio.timeout(20), natsery.connect(url, user="u", password="p") as nc:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(natsery.serve(nc, config))
            news = await stack.enter_async_context(nc.subscribe("news"))
            events = stack.enter_context(nc.events())
            async with asyncio.TaskGroup() as tasks:
                replies = [tasks.create_task(nc.request("meet", data)) for data in (b"1", b"2")]
            assert [reply.result().data for reply in replies] == [b"1", b"2"]
            await nc.publish("news", b"new")
            assert (await news.receive()).data == b"new"
            seen: list[Message] = []
            await nc.add_subscription("events", lambda message: (anyio.Event().set(), seen.append(message))[1])
            await nc.publish("events")
            await nc.publish("forbidden")
            await nc.flush()
            assert len(seen) == 1
            async for event in events:
                if event.kind is EventKind.ERROR:
                    assert isinstance(event.error, natsery.PublishDeniedError)
                    break


@pytest.mark.parametrize("run", RUNS)
def test_a_program_without_anyio(run: Callable[[Coroutine[Any, Any, None]], None]) -> None:
    with NatsServer(f"authorization {{ users: [{PERMISSIONS}] }}") as server:
        run(use(server.url))
