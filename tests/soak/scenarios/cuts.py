"""The network is cut after a random number of bytes, of the service's connection or of the requester's, one way or both."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

import natsery

from ...proxy import open_proxy
from ..callers import BACK_SECONDS, callers
from ..harness import Bench, Run

DIRECTIONS = ("to server", "to client")


@natsery.endpoint("echo", subject="cuts.echo", concurrency=4)
async def echo(request: natsery.Request) -> bytes:
    await anyio.lowlevel.checkpoint()
    return request.data


@asynccontextmanager
async def cuts(bench: Bench) -> AsyncIterator[Run]:
    config = natsery.ServiceConfig("cuts", "1.0.0", endpoints=[echo])
    options = {"reconnect_wait": 0.001, "max_reconnect_wait": 0.02}
    async with (
        open_proxy(bench.server.port) as one,
        open_proxy(bench.server.port) as other,
        natsery.connect(one.url, **options) as nc,
        natsery.connect(other.url, **options) as client,
        natsery.serve(nc, config) as service,
        callers(bench, "cuts.echo", nc, client) as wait_until_answered,
    ):

        async def run(chance: random.Random) -> None:
            proxy = chance.choice([one, other])
            for each in (one, other):
                each.sent.clear()  # which would grow all the time
            cuts = proxy.cuts
            # Little hits the handshake after it, a lot a message; the second of two cuts comes while it reconnects.
            for _ in range(chance.choice([1, 1, 2])):
                proxy.cut_after(
                    chance.choice(DIRECTIONS), chance.choice([chance.randrange(400), chance.randrange(50_000)])
                )
                cuts += 1
                with anyio.fail_after(BACK_SECONDS):
                    while proxy.cuts < cuts:
                        await anyio.sleep(0.001)
            await wait_until_answered()

        yield run
    bench.check_ended(service)
