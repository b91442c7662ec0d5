"""Operations over a broker in memory, each cancelled at a point that is drawn by lot; afterwards all is as it was."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

import natsery
from natsery.testing import MemoryBroker

from ..harness import Bench, Run
from ..operations import Endpoints, probe, read_stream, run_schedule


@asynccontextmanager
async def cancellation_memory(bench: Bench) -> AsyncIterator[Run]:
    endpoints = Endpoints()
    async with (
        MemoryBroker() as broker,
        broker.connect() as nc,
        anyio.create_task_group() as endpoints.tasks,
        natsery.serve(nc, endpoints.config()) as service,
    ):
        await probe(nc)
        await read_stream(nc)  # which opens the service's inbox for acknowledgements
        await nc.flush()  # since what has ended is known until then
        subjects = sorted(each.subject for each in nc._subscriptions)

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
            assert sorted(each.subject for each in nc._subscriptions) == subjects

        yield run
    bench.check_ended(service)
