"""What programs do with connections and services, for scenarios that cancel it anywhere."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio

import natsery
from natsery.abc import Connection

from ..schedules import CancelledAt

Operation = Callable[[Connection], Awaitable[object]]

MAX_STEPS = 40
"""The last point at which an operation is cancelled; few give control to the event loop more often."""


class Endpoints:
    """The service that the operations call."""

    def __init__(self) -> None:
        self.tasks: anyio.abc.TaskGroup

    @natsery.endpoint(concurrency=4)
    async def echo(self, request: natsery.Request) -> bytes:
        return request.data

    @natsery.endpoint(concurrency=4)
    async def waits(self, request: natsery.Request) -> bytes:
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        return request.data

    @natsery.endpoint(concurrency=4)
    async def detached(self, request: natsery.Request) -> None:
        self.tasks.start_soon(self._answer, request.detach())

    async def _answer(self, detached: natsery.DetachedRequest) -> None:
        async with detached as request:
            await request.respond(request.data)

    @natsery.endpoint(concurrency=4)
    async def parts(self, request: natsery.Request) -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"part"

    def config(self) -> natsery.ServiceConfig:
        return natsery.ServiceConfig(
            "stays", "1.0.0", endpoints=[self.echo, self.waits, self.detached, self.parts], id="STAYS"
        )


async def probe(nc: Connection) -> None:
    """Fail if the service does not answer as if nothing had been."""
    assert (await nc.request("echo", b"probe")).data == b"probe"


@natsery.endpoint("brief")
async def brief(request: natsery.Request) -> bytes:
    return b"brief"


async def publish(nc: Connection) -> None:
    await nc.publish("noise", bytes(1000), headers={"A": "1"})


async def flush(nc: Connection) -> None:
    await nc.flush()


async def request(nc: Connection) -> None:
    await nc.request("waits", b"1")


async def request_detached(nc: Connection) -> None:
    await nc.request("detached", b"1")


async def request_in_vain(nc: Connection) -> None:
    try:
        await nc.request("nobody")
    except natsery.NoRespondersError:
        return
    raise AssertionError("somebody has answered")


async def receive(nc: Connection) -> None:
    async with nc.subscribe("noise") as messages:
        await nc.publish("noise", b"1")
        await messages.receive()


async def listen(nc: Connection) -> None:
    with nc.events() as events:
        async for _ in events:
            await nc.flush()
            return


async def subscribe(nc: Connection) -> None:
    subscription = await nc.add_subscription("noise", lambda message: None)
    try:
        await nc.flush()
    finally:
        await subscription.unsubscribe()
    await nc.flush()


async def read_stream(nc: Connection) -> None:
    async with natsery.ServiceClient(nc).stream("parts") as replies:
        assert [reply.data async for reply in replies] == [b"part"] * 5


async def leave_stream(nc: Connection) -> None:
    async with natsery.ServiceClient(nc).stream("parts", window=1) as replies:
        async for _ in replies:
            return


async def discover(nc: Connection) -> None:
    (found,) = await natsery.ServiceClient(nc).info("stays", count=1)
    assert len(found.endpoints) == 4


async def request_many(nc: Connection) -> None:
    async with natsery.ServiceClient(nc).request_many("echo", b"1", count=1) as replies:
        assert [reply.data async for reply in replies] == [b"1"]


async def serve(nc: Connection) -> None:
    config = natsery.ServiceConfig("goes", "1.0.0", endpoints=[brief])
    async with natsery.serve(nc, config, grace=0.2):
        await nc.request("brief")


async def serve_more(nc: Connection) -> None:
    async with natsery.serve(nc, natsery.ServiceConfig("grows", "1.0.0"), grace=0.2) as service:
        endpoint = await service.add_endpoint(natsery.EndpointConfig("more", brief, subject="more"))
        await nc.request("more")
        await endpoint.remove()


async def stop(nc: Connection) -> None:
    async with natsery.serve(nc, natsery.ServiceConfig("stops", "1.0.0", endpoints=[brief]), grace=0) as service:
        service.stop()
        await service.wait_stopped()


OPERATIONS: list[Operation] = [
    *(publish, flush, request, request_detached, request_in_vain, receive, listen, subscribe),
    *(read_stream, leave_stream, discover, request_many, serve, serve_more, stop),
]


async def run_cancelled(operation: Operation, nc: Connection, chance: random.Random) -> None:
    """Run an operation that is held up now and then, and cancel it at a point that is drawn by lot."""

    async def operate() -> None:
        await operation(nc)

    with anyio.CancelScope() as scope:
        await CancelledAt(operate(), chance.randint(1, MAX_STEPS), scope, chance)


async def run_schedule(nc: Connection, chance: random.Random) -> None:
    """Run one to three operations at the same time, each cancelled somewhere."""
    async with anyio.create_task_group() as tasks:
        for operation in chance.choices(OPERATIONS, k=chance.randint(1, 3)):
            tasks.start_soon(run_cancelled, operation, nc, random.Random(chance.random()))
