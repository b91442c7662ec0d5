"""Two services share a connection; one ends, fails or is denied, and the other answers on."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio

import natsery

from ..harness import Bench, Run

CALLERS = 8


class _Crash(BaseException):
    """What no service survives."""


@natsery.endpoint("stays", subject="sharing.stays", concurrency=4)
async def stays(request: natsery.Request) -> bytes:
    await anyio.lowlevel.checkpoint()
    return request.data


@natsery.endpoint("goes", subject="sharing.goes")
async def goes(request: natsery.Request) -> bytes:
    if request.data == b"crash":
        raise _Crash
    if request.data == b"stop":
        request.service.stop()
    return request.data


@asynccontextmanager
async def sharing(bench: Bench) -> AsyncIterator[Run]:
    config = natsery.ServiceConfig("stays", "1.0.0", endpoints=[stays])
    async with (
        natsery.connect(bench.url) as nc,
        natsery.connect(bench.url) as client,
        natsery.serve(nc, config) as service,
        anyio.create_task_group() as callers,
    ):
        is_over = False

        async def call() -> None:
            while not is_over:
                reply = await bench.ask(client, "sharing.stays", b"x")
                assert reply is None or reply.data == b"x", reply

        async def provoke(how: bytes, is_answered: anyio.Event) -> None:
            """Ask from outside of the service's block, which ends when the service does."""
            reply = await bench.ask(client, "sharing.goes", how)
            assert reply is None or (natsery.ServiceError.from_message(reply) is None) is (how != b"crash"), (
                how,
                reply,
            )
            is_answered.set()

        async def run(chance: random.Random) -> None:
            neighbour = natsery.ServiceConfig("goes", "1.0.0", endpoints=[goes])
            how, is_answered = chance.choice([b"crash", b"stop", b"neither"]), anyio.Event()
            async with anyio.create_task_group() as tasks:
                with suppress(_Crash):
                    async with natsery.serve(nc, neighbour) as other:
                        tasks.start_soon(provoke, how, is_answered)
                        await (is_answered.wait() if how == b"neither" else other.wait_stopped())
            bench.check_ended(other)

        for _ in range(CALLERS):
            callers.start_soon(call)
        yield run
        is_over = True
    bench.check_ended(service)
