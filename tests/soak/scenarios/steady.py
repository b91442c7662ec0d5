"""Steady load with every way in which a request can end, on one service; the books must balance after each run."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.from_thread

import natsery

from ..harness import Bench, Run

CALLERS = 16
REQUESTS = 40
"""Of each caller, in a run."""

BOOKS_SECONDS = 10
"""How long the statistics may take to show the last request."""

PARTS = [b"0", b"1", b"2"]


class Endpoints:
    """Handlers that end in every way."""

    def __init__(self) -> None:
        self.tasks: anyio.abc.TaskGroup

    @natsery.endpoint(concurrency=4)
    async def good(self, request: natsery.Request) -> bytes:
        return request.data

    @natsery.endpoint(concurrency=4)
    async def responds(self, request: natsery.Request) -> None:
        await anyio.lowlevel.checkpoint()
        await request.respond(request.data, headers={"Answered": "yes"})

    @natsery.endpoint
    async def raises(self, request: natsery.Request) -> bytes:
        raise LookupError("not to be told")

    @natsery.endpoint
    async def refuses(self, request: natsery.Request) -> bytes:
        raise natsery.ServiceError(404, "not here", data=request.data)

    @natsery.endpoint(timeout=0.001, concurrency=8)
    async def late(self, request: natsery.Request) -> bytes:
        await anyio.Event().wait()
        raise AssertionError

    @natsery.endpoint(concurrency=4)
    async def detached(self, request: natsery.Request) -> None:
        self.tasks.start_soon(self._answer, request.detach())

    async def _answer(self, detached: natsery.DetachedRequest) -> None:
        async with detached as request:
            await anyio.sleep(0.001)
            await request.respond(request.data)

    @natsery.endpoint(concurrency=4)
    async def parts(self, request: natsery.Request) -> AsyncIterator[bytes]:
        for part in PARTS:
            yield part

    @natsery.endpoint(concurrency=8)
    async def endless(self, request: natsery.Request) -> AsyncIterator[bytes]:
        while True:
            yield b"more"
            await anyio.lowlevel.checkpoint()

    @natsery.endpoint(concurrency=4)
    async def breaks(self, request: natsery.Request) -> AsyncIterator[bytes]:
        yield PARTS[0]
        raise LookupError("not to be told")

    @natsery.endpoint(in_thread=True, concurrency=2)
    def threaded(self, request: natsery.Request) -> bytes:
        return request.data

    @natsery.endpoint
    async def silent(self, request: natsery.Request) -> None:
        return None

    @natsery.endpoint(pending_messages=2)
    async def narrow(self, request: natsery.Request) -> bytes:
        await anyio.sleep(0.001)
        return request.data

    @natsery.endpoint(concurrency=4)
    async def slow(self, request: natsery.Request) -> bytes:
        await anyio.sleep(0.002)
        return request.data


NAMES = [name for name in vars(Endpoints) if not name.startswith("_")]


class Books:
    """What the statistics must show: requests and failures of each endpoint."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.given_up: Counter[str] = Counter()
        """Requests whose caller has not waited: the service may have seen them, or not."""

    def add(self, endpoint: str, requests: int = 1, errors: int = 0) -> None:
        self.requests[endpoint] += requests
        self.errors[endpoint] += errors

    def difference(self, stats: natsery.ServiceStats) -> str:
        """Say where the statistics show something else, ``""`` for nowhere."""
        found = ""
        for each in stats.endpoints:
            least, errors = self.requests[each.name], self.errors[each.name]
            most = least + self.given_up[each.name]
            if not (least <= each.num_requests <= most and each.num_errors == errors):
                found += (
                    f"{each.name}: {each.num_requests} requests, {each.num_errors} errors ({dict(each.failures)}); "
                )
                found += f"{least} to {most} requests were sent, {errors} of them failed\n"
        return found


@asynccontextmanager
async def steady(bench: Bench) -> AsyncIterator[Run]:
    endpoints, books = Endpoints(), Books()
    config = natsery.ServiceConfig("steady", "1.0.0", endpoints=[getattr(endpoints, name) for name in NAMES])

    async with (
        natsery.connect(bench.url) as nc,
        natsery.connect(bench.url) as client,
        anyio.create_task_group() as endpoints.tasks,
        natsery.serve(nc, config) as service,
    ):
        callers = Callers(bench, client, books)

        async def run(chance: random.Random) -> None:
            async with anyio.create_task_group() as tasks:
                for _ in range(CALLERS):
                    tasks.start_soon(callers.call, random.Random(chance.random()))
            await client.flush()
            await nc.flush()
            with anyio.move_on_after(BOOKS_SECONDS):
                while service.pending or books.difference(service.stats()):
                    await anyio.sleep(0.001)
            assert not service.pending, f"{service.pending} requests are pending at rest"
            difference = books.difference(service.stats())
            # The next run is not to fail of the same.
            books.__init__()
            service.reset()
            assert not difference, difference

        yield run
    bench.check_ended(service)


class Callers:
    """Sends requests of every kind, and checks each answer."""

    def __init__(self, bench: Bench, nc: natsery.NativeConnection, books: Books) -> None:
        self._bench = bench
        self._nc = nc
        self._client = natsery.ServiceClient(nc)
        self._books = books

    async def call(self, chance: random.Random) -> None:
        usual = [self._echo] * 12
        rare = [
            *(self._large, self._error, self._expired, self._stream, self._stream_that_breaks, self._leave_early),
            *(self._give_up, self._overload, self._publish_for_nothing, self._publish_to_the_silent),
        ]
        for _ in range(REQUESTS):
            await chance.choice(usual + rare)(chance)

    async def _echo(self, chance: random.Random) -> None:
        endpoint = chance.choice(["good", "good", "responds", "detached", "threaded", "slow"])
        await self._echoed(endpoint, chance.randbytes(chance.randrange(200)))

    async def _large(self, chance: random.Random) -> None:
        await self._echoed("good", chance.randbytes(chance.randrange(200_000)))

    async def _echoed(self, endpoint: str, data: bytes) -> None:
        self._books.add(endpoint)
        reply = await self._bench.ask(self._nc, endpoint, data)
        assert reply is None or (reply.data == data and natsery.ServiceError.from_message(reply) is None), (
            endpoint,
            reply,
        )

    async def _error(self, chance: random.Random) -> None:
        endpoint, code = chance.choice([("raises", 500), ("refuses", 404), ("late", 504)])
        await self._failing(endpoint, code)

    async def _expired(self, chance: random.Random) -> None:
        await self._failing("good", 504, {"Request-Timeout-Ms": "0"})

    async def _failing(self, endpoint: str, code: int, headers: dict[str, str] | None = None) -> None:
        self._books.add(endpoint, errors=1)
        reply = await self._bench.ask(self._nc, endpoint, b"x", headers=headers)
        if reply is not None:
            error = natsery.ServiceError.from_message(reply)
            assert error is not None, (endpoint, reply)
            assert error.code == code, (endpoint, error)
            assert "not to be told" not in f"{error}{reply.data!r}"

    async def _stream(self, chance: random.Random) -> None:
        self._books.add("parts")
        await self._read("parts", PARTS)

    async def _stream_that_breaks(self, chance: random.Random) -> None:
        self._books.add("breaks", errors=1)
        code = 0
        try:
            await self._read("breaks", PARTS)
        except natsery.ServiceError as error:
            code = error.code
        assert code == 500, code

    async def _read(self, endpoint: str, parts: list[bytes]) -> None:
        self._bench.tally.requests += 1
        async with self._client.stream(endpoint) as replies:
            assert [reply.data async for reply in replies] == parts

    async def _leave_early(self, chance: random.Random) -> None:
        self._books.add("endless")
        self._bench.tally.requests += 1
        many = chance.randrange(1, 40)
        async with self._client.stream("endless", window=chance.choice([1, 8, 128])) as replies:
            async for _ in replies:
                many -= 1
                if not many:
                    break

    async def _give_up(self, chance: random.Random) -> None:
        self._books.given_up["slow"] += 1
        with anyio.move_on_after(chance.random() * 0.004):
            await self._nc.request("slow")

    async def _overload(self, chance: random.Random) -> None:
        """Ten requests at once where one is handled and two may wait."""

        async def ask(number: int) -> None:
            nonlocal refused
            reply = await self._bench.ask(self._nc, "narrow", b"%d" % number)
            if reply is not None and (error := natsery.ServiceError.from_message(reply)) is not None:
                assert str(error) == "503:Service Overloaded"
                refused += 1

        refused = 0
        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(ask, number)
        self._books.add("narrow", 10, refused)

    async def _publish_for_nothing(self, chance: random.Random) -> None:
        """What has no reply subject cannot be answered, which counts as a failure."""
        self._books.add("good", errors=1)
        await self._nc.publish("good", b"x")

    async def _publish_to_the_silent(self, chance: random.Random) -> None:
        self._books.add("silent")
        await self._nc.publish("silent", b"x", reply=self._nc.new_inbox())
