"""The server is killed and started again under load: what was under way may be gone, and all else is as before."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread

import natsery
from natsery.testing import NatsServer

from ..harness import Bench, Run, wait_until_back

CALLERS = 16

CUT_OFF_SECONDS = 0.5
"""How long a request is waited for. While the server is away it is sent later, and after that it may be gone."""

BACK_SECONDS = 20.0
"""How long both connections may take to be back."""


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
            anyio.create_task_group() as callers,
        ):
            is_over = False
            answered = 0

            async def call(number: int) -> None:
                nonlocal answered
                data = b"%d" % number
                while not is_over:
                    try:
                        reply = await bench.ask(
                            client, "restarts.echo", data, seconds=CUT_OFF_SECONDS, may_be_cut_off=True
                        )
                    except natsery.NoRespondersError:  # the service is not back yet
                        bench.tally.cut_off += 1
                        await anyio.sleep(0.01)
                        continue
                    if reply is not None:
                        assert reply.data == data, reply
                        answered += 1

            async def run(chance: random.Random) -> None:
                await anyio.sleep(chance.random() * 0.1)
                await anyio.to_thread.run_sync(server.restart)
                with anyio.fail_after(BACK_SECONDS):
                    await wait_until_back(nc, client)
                    before = answered
                    while answered < before + CALLERS:
                        await anyio.sleep(0.001)

            for number in range(CALLERS):
                callers.start_soon(call, number)
            yield run
            is_over = True
    bench.check_ended(service)
