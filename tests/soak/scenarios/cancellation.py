"""Operations, each cancelled at a point that is drawn by lot; afterwards all is as it was."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio

import natsery
from natsery.testing import MemoryBroker

from ...schedules import CancelledAt
from ..harness import Bench, Run
from ..operations import Endpoints, probe, read_stream, run_schedule


@asynccontextmanager
async def cancellation_memory(bench: Bench) -> AsyncIterator[Run]:
    """Over a broker in memory."""
    async with MemoryBroker() as broker, broker.connect() as nc:
        async with _cancellation(bench, nc, lambda: nc._subscriptions) as run:
            yield run


@asynccontextmanager
async def cancellation_native(bench: Bench) -> AsyncIterator[Run]:
    """Over a native connection, and connecting itself."""
    async with natsery.connect(bench.url) as nc:
        async with _cancellation(bench, nc, lambda: nc._subscriptions.by_sid.values()) as run_schedules:

            async def run(chance: random.Random) -> None:
                if chance.random() < 0.1:
                    await connect_cancelled(bench.url, chance.randint(1, 40))
                await run_schedules(chance)

            yield run


@asynccontextmanager
async def _cancellation(bench: Bench, nc, subscriptions: Callable) -> AsyncIterator[Run]:
    endpoints = Endpoints()
    async with anyio.create_task_group() as endpoints.tasks, natsery.serve(nc, endpoints.config()) as service:
        await probe(nc)
        await read_stream(nc)  # which opens the service's inbox for acknowledgements
        await nc.flush()  # since what has ended is known until then
        subjects = sorted(each.subject for each in subscriptions())

        async def run(chance: random.Random) -> None:
            bench.tally.requests += 1
            await run_schedule(nc, chance)
            await probe(nc)
            with anyio.move_on_after(2):
                while service.pending:
                    await anyio.sleep(0)
            await nc.flush()
            assert not service.pending
            assert not nc._requests._pending
            assert sorted(each.subject for each in subscriptions()) == subjects

        yield run
    bench.check_ended(service)


async def connect_cancelled(url: str, n: int) -> None:
    async def use() -> None:
        async with natsery.connect(url) as nc:
            await nc.flush()

    with anyio.CancelScope() as scope:
        await CancelledAt(use(), n, scope)
