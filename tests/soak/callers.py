"""Callers who go on asking while their connections break and come back."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio

import natsery

from .harness import Bench, wait_until_back

CALLERS = 16

CUT_OFF_SECONDS = 0.5
"""How long a request is waited for. While a connection is away it is sent later, and after that it may be gone."""

BACK_SECONDS = 20.0
"""How long all may take to be as before."""


@asynccontextmanager
async def callers(
    bench: Bench, subject: str, service_nc: natsery.NativeConnection, client_nc: natsery.NativeConnection
) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Have an echo asked for the length of a block; what it yields waits until connections and answers are back."""
    is_over = False
    answered = 0

    async def call(number: int) -> None:
        nonlocal answered
        chance = random.Random(number)
        while not is_over:
            data = b"%d " % number + bytes(chance.randrange(1, 3000))
            try:
                reply = await bench.ask(client_nc, subject, data, seconds=CUT_OFF_SECONDS, may_be_cut_off=True)
            except natsery.NoRespondersError:  # the service is not back yet
                bench.tally.cut_off += 1
                await anyio.sleep(0.001)
                continue
            if reply is not None:
                assert reply.data == data, reply
                answered += 1

    async def wait_until_answered() -> None:
        with anyio.fail_after(BACK_SECONDS):
            await wait_until_back(service_nc, client_nc)
            before = answered
            while answered < before + CALLERS:
                await anyio.sleep(0.001)

    async with anyio.create_task_group() as tasks:
        for number in range(CALLERS):
            tasks.start_soon(call, number)
        yield wait_until_answered
        is_over = True
