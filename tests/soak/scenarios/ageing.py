"""Connections and services are opened and closed over and over, each with ten requests."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

import natsery

from ..harness import Bench, Run

REQUESTS = 10


@natsery.endpoint("echo", subject="ageing.echo")
async def echo(request: natsery.Request) -> bytes:
    return request.data


@asynccontextmanager
async def ageing(bench: Bench) -> AsyncIterator[Run]:
    async def ask(nc: natsery.NativeConnection, number: int) -> None:
        reply = await bench.ask(nc, "ageing.echo", b"%d" % number)
        assert reply is None or reply.data == b"%d" % number, reply

    async def run(chance: random.Random) -> None:
        config = natsery.ServiceConfig("ageing", "1.0.0", endpoints=[echo])
        async with natsery.connect(bench.url) as nc:
            async with natsery.serve(nc, config) as service, anyio.create_task_group() as tasks:
                for number in range(REQUESTS):
                    tasks.start_soon(ask, nc, number)
        bench.check_ended(service)

    yield run
