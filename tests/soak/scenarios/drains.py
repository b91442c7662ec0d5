"""A service ends under load, in each of the ways in which one can: what it has accepted is answered, and nothing else is."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio

import natsery

from ..harness import Bench, Run

CALLERS = 24
WAYS = ("end of the block", "stop", "stop in a handler", "cancellation", "exception")


class _Leave(Exception):
    """Raised by the body of a service."""


@asynccontextmanager
async def drains(bench: Bench) -> AsyncIterator[Run]:
    async with natsery.connect(bench.url) as nc, natsery.connect(bench.url) as client:

        async def run(chance: random.Random) -> None:
            drain = Drain(bench, client, chance)
            async with anyio.create_task_group() as drain.tasks:
                await drain.serve(nc)
            drain.check()

        yield run


class Drain:
    """One service, from its start to the last answer."""

    def __init__(self, bench: Bench, client: natsery.NativeConnection, chance: random.Random) -> None:
        self.tasks: anyio.abc.TaskGroup
        self._bench = bench
        self._client = client
        self._chance = chance
        self._way = chance.choice(WAYS)
        self._left = chance.randrange(1, 150)
        """Requests to be handled until the end begins."""
        self._is_due = anyio.Event()
        self._is_ending = False
        self._answered = 0
        self._service: natsery.Service

    async def serve(self, nc: natsery.NativeConnection) -> None:
        concurrency = self._chance.choice([1, 2, 8])
        endpoints = [
            natsery.EndpointConfig(name, handler, subject=f"drains.{name}", concurrency=concurrency)
            for name, handler in (("quick", self._quick), ("slow", self._slow), ("detached", self._detached))
        ]
        config = natsery.ServiceConfig("drains", "1.0.0", endpoints=endpoints)
        with anyio.CancelScope() as scope, suppress(_Leave):
            async with natsery.serve(nc, config) as self._service:
                for number in range(CALLERS):
                    self.tasks.start_soon(self._call, number)
                await self._is_due.wait()
                self._is_ending = True
                if self._way == "exception":
                    raise _Leave
                if self._way == "cancellation":
                    scope.cancel()
                elif self._way == "stop":
                    self._service.stop()
                if self._way != "end of the block":
                    await anyio.sleep_forever()
        self._bench.check_ended(self._service)

    def check(self) -> None:
        stats = self._service.stats().endpoints
        requests, errors = sum(each.num_requests for each in stats), sum(each.num_errors for each in stats)
        assert (requests, errors) == (self._answered, 0), (self._way, requests, self._answered, stats)

    def _count(self) -> None:
        self._left -= 1
        if self._left == 0:
            if self._way == "stop in a handler":
                self._service.stop()
                self._is_ending = True
            self._is_due.set()

    async def _quick(self, request: natsery.Request) -> bytes:
        self._count()
        return request.data

    async def _slow(self, request: natsery.Request) -> bytes:
        self._count()
        await anyio.sleep(self._chance.random() * 0.005)
        return request.data

    async def _detached(self, request: natsery.Request) -> None:
        self._count()
        self.tasks.start_soon(self._answer, request.detach())

    async def _answer(self, detached: natsery.DetachedRequest) -> None:
        async with detached as request:
            await anyio.sleep(self._chance.random() * 0.005)
            await request.respond(request.data)

    async def _call(self, number: int) -> None:
        """Ask until nobody is there any more."""
        data = b"%d" % number
        while True:
            try:
                reply = await self._bench.ask(self._client, f"drains.{('quick', 'slow', 'detached')[number % 3]}", data)
            except natsery.NoRespondersError:
                self._bench.tally.requests -= 1  # the server has refused it
                assert self._is_ending
                return
            if reply is None:
                return
            assert reply.data == data, (self._way, reply)
            self._answered += 1
