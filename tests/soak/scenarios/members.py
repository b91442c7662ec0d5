"""The members of a queue group are exchanged one after the other under load: every request is answered."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

import natsery

from ..harness import Bench, Run

MEMBERS = 3
CALLERS = 24


@asynccontextmanager
async def members(bench: Bench) -> AsyncIterator[Run]:
    fleet = Fleet(bench)
    async with natsery.connect(bench.url) as client, anyio.create_task_group() as fleet.tasks:
        for _ in range(MEMBERS):
            await fleet.start()

        async with anyio.create_task_group() as callers:
            is_over = False

            async def call() -> None:
                while not is_over:
                    reply = await bench.ask(client, "members.echo", b"x")
                    assert reply is None or reply.data == b"x", reply

            async def run(chance: random.Random) -> None:
                await fleet.start()
                await fleet.wait_handled(fleet.handled + chance.randrange(100))
                await fleet.stop()

            for _ in range(CALLERS):
                callers.start_soon(call)
            yield run
            is_over = True
        for _ in range(MEMBERS):
            await fleet.stop()


class Fleet:
    """Members, the oldest first, each with a connection of its own."""

    def __init__(self, bench: Bench) -> None:
        self.tasks: anyio.abc.TaskGroup
        self.handled = 0
        self._bench = bench
        self._members: deque[tuple[natsery.Service, anyio.Event]] = deque()
        self._progress = anyio.Event()

    async def wait_handled(self, number: int) -> None:
        while self.handled < number:
            await self._progress.wait()

    async def start(self) -> None:
        """Start a member, and return when it is live."""
        self._members.append(await self.tasks.start(self._serve))

    async def stop(self) -> None:
        """Stop the oldest member, and return when it has gone."""
        service, has_ended = self._members.popleft()
        service.stop()
        await has_ended.wait()
        self._bench.check_ended(service)

    async def _serve(self, *, task_status: anyio.abc.TaskStatus[tuple[natsery.Service, anyio.Event]]) -> None:
        has_ended = anyio.Event()
        endpoint = natsery.EndpointConfig("echo", self._echo, subject="members.echo", concurrency=4)
        config = natsery.ServiceConfig("members", "1.0.0", endpoints=[endpoint])
        async with natsery.connect(self._bench.url) as nc:
            async with natsery.serve(nc, config) as service:
                task_status.started((service, has_ended))
                await service.wait_stopped()
        has_ended.set()

    async def _echo(self, request: natsery.Request) -> bytes:
        self.handled += 1
        self._progress.set()
        self._progress = anyio.Event()
        if self.handled % 7 == 0:
            await anyio.sleep(0.001)
        return request.data
