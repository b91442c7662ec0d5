"""More requests at once than may wait, and messages that must not be answered, at a service with a slow error handler."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

import natsery

from ..harness import Bench, Run

MAX_WAITING = 32
BURST = 10 * MAX_WAITING
BOOKS_SECONDS = 10

FORBIDDEN = ("$SRV.PING", "$SYS.REQ.x", "$JS.API.x")
"""Reply subjects with which a requester would have the service do things in its own name."""


@natsery.endpoint("narrow", subject="floods.narrow", pending_messages=MAX_WAITING)
async def narrow(request: natsery.Request) -> bytes:
    await anyio.sleep(0.001)
    return request.data


@natsery.endpoint("other", subject="floods.other")
async def other(request: natsery.Request) -> bytes:
    return request.data


async def report(error: Exception, endpoint: natsery.Endpoint | None, request: natsery.Request | None) -> None:
    await anyio.sleep(0.001)


@asynccontextmanager
async def floods(bench: Bench) -> AsyncIterator[Run]:
    config = natsery.ServiceConfig("floods", "1.0.0", endpoints=[narrow, other], error_handler=report)
    async with (
        natsery.connect(bench.url) as nc,
        natsery.connect(bench.url) as client,
        natsery.serve(nc, config) as service,
    ):

        async def run(chance: random.Random) -> None:
            flood = Flood(bench, client)
            forged = chance.randrange(BURST)
            async with anyio.create_task_group() as tasks:
                for number in range(BURST):
                    tasks.start_soon(flood.ask, b"%d" % number)
                for _ in range(forged):
                    await client.publish("floods.narrow", b"x", reply=chance.choice(FORBIDDEN))
                # The neighbour is served as ever.
                reply = await bench.ask(client, "floods.other", b"me too")
                assert reply is None or reply.data == b"me too", reply
            assert flood.good >= MAX_WAITING, flood.good
            await client.flush()
            await nc.flush()
            with anyio.move_on_after(BOOKS_SECONDS):
                while service.pending or service.stats().endpoints[0].num_requests < BURST:
                    await anyio.sleep(0.001)
            stats = service.stats().endpoints[0]
            service.reset()
            assert (stats.num_requests, stats.num_errors, stats.malformed) == (BURST, flood.refused, forged), stats

        yield run
    bench.check_ended(service)


class Flood:
    """What became of a burst."""

    def __init__(self, bench: Bench, nc: natsery.NativeConnection) -> None:
        self.good = self.refused = 0
        self._bench = bench
        self._nc = nc

    async def ask(self, data: bytes) -> None:
        reply = await self._bench.ask(self._nc, "floods.narrow", data)
        if reply is None:
            return
        error = natsery.ServiceError.from_message(reply)
        if error is None:
            assert reply.data == data, reply
            self.good += 1
        else:
            assert str(error) == "503:Service Overloaded", error
            self.refused += 1
