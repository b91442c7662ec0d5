"""The server is killed and started again under load: what was under way may be gone, and all else is as before."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread

import natsery
from natsery.testing import NatsServer

from ..callers import callers
from ..harness import Bench, Run


@natsery.endpoint("echo", subject="restarts.echo", concurrency=4)
async def echo(request: natsery.Request) -> bytes:
    await anyio.sleep(0.001)
    return request.data


@asynccontextmanager
async def restarts(bench: Bench) -> AsyncIterator[Run]:
    config = natsery.ServiceConfig("restarts", "1.0.0", endpoints=[echo])
    with NatsServer() as server:
        async with (
            natsery.connect(server.url, reconnect_wait=0.01, max_reconnect_wait=0.05) as nc,
            natsery.connect(server.url, reconnect_wait=0.01, max_reconnect_wait=0.05) as client,
            natsery.serve(nc, config) as service,
            callers(bench, "restarts.echo", nc, client) as wait_until_answered,
        ):

            async def run(chance: random.Random) -> None:
                await anyio.sleep(chance.random() * 0.1)
                await anyio.to_thread.run_sync(server.restart)
                await wait_until_answered()

            yield run
    bench.check_ended(service)
