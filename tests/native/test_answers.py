"""How the answers to many requests at once leave: in order, whole, none lost, and none waiting for another."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import anyio
import pytest

import natsery
from natsery import EventKind
from natsery._core._limits import HOLD_NS

from ..bounds import bounded
from ..server import NatsServer
from .scripted import Peer, scripted_server

pytestmark = pytest.mark.anyio

COUNT = 8


def burst(count: int = COUNT) -> bytes:
    """Requests as one chunk, to the first subscription."""
    return b"".join(b"MSG echo 1 r.%d 1\r\n%d\r\n" % (number, number % 10) for number in range(count))


def echo_service(handler: Callable[[natsery.Request], Awaitable[bytes]], concurrency: int = 1) -> natsery.ServiceConfig:
    return natsery.ServiceConfig(
        "echo", "1.0.0", endpoints=[natsery.EndpointConfig("echo", handler, concurrency=concurrency)]
    )


async def replies(peer: Peer, count: int) -> list[tuple[int, int]]:
    """The number and the size of each reply."""
    found: list[tuple[int, int]] = []
    while len(found) < count:
        _, subject, size = (await peer.line_of(b"PUB")).split()
        await peer.line()
        found.append((int(subject[2:]), int(size)))
    return found


class Server:
    """Sends what a test says once the service is live, and takes the answers."""

    def __init__(self, requests: bytes, count: int) -> None:
        self.may_read = anyio.Event()
        self.answered = anyio.Event()
        self.replies: list[tuple[int, int]] = []
        self._requests = requests
        self._count = count

    async def script(self, peer: Peer) -> None:
        await peer.greet(max_payload=1_000_000)
        await peer.line_of(b"PING")
        await peer.send(b"PONG\r\n" + self._requests)
        await self.may_read.wait()
        self.replies = await replies(peer, self._count)
        self.answered.set()
        await peer.answer_pings()


async def test_answers_to_a_burst_leave_in_order() -> None:
    async def echo(request: natsery.Request) -> bytes:
        return request.data

    server = Server(burst(1000), 1000)
    server.may_read.set()
    async with bounded(), scripted_server(server.script) as url, natsery.connect(url) as nc:
        async with natsery.serve(nc, echo_service(echo)) as service:
            await server.answered.wait()
            assert service.stats().endpoints[0].num_requests == 1000
    assert server.replies == [(number, 1) for number in range(1000)]


async def test_answers_wait_for_a_server_that_takes_nothing_and_stay_whole() -> None:
    async def large(request: natsery.Request) -> bytes:
        return request.data * 60_000

    server = Server(burst(100), 100)
    async with bounded(), scripted_server(server.script) as url, natsery.connect(url) as nc:
        async with natsery.serve(nc, echo_service(large)):
            await anyio.wait_all_tasks_blocked()
            assert nc.pending_bytes > 0
            server.may_read.set()
            await server.answered.wait()
        await nc.flush()
        assert nc.pending_bytes == 0
    assert server.replies == [(number, 60_000) for number in range(100)]


async def test_answers_stay_whole_when_the_network_takes_parts_of_them() -> None:
    found: list[tuple[int, bytes]] = []
    is_over = anyio.Event()

    async def script(peer: Peer) -> None:
        await peer.greet(max_payload=1_000_000)
        await peer.line_of(b"PING")
        await peer.send(b"PONG\r\n")
        for _ in range(30):  # so that what is on the way fills what the network holds, from one half or another on
            await peer.send(burst(100))
            await anyio.wait_all_tasks_blocked()
        assert nc.pending_bytes > 0
        while len(found) < 3000:
            _, subject, size = (await peer.line_of(b"PUB")).split()
            data = await peer.line()
            assert len(data) == int(size)
            found.append((int(subject[2:]), data))
        is_over.set()
        await peer.answer_pings()

    async def large(request: natsery.Request) -> bytes:
        return request.data * 5_000

    async with bounded(), scripted_server(script) as url, natsery.connect(url) as nc:
        async with natsery.serve(nc, echo_service(large)):
            await is_over.wait()
    assert found == [(number, b"%d" % (number % 10) * 5_000) for number in range(100)] * 30


async def test_an_answer_does_not_wait_for_a_request_that_takes_long() -> None:
    is_over = anyio.Event()

    async def stall_in_between(request: natsery.Request) -> bytes:
        if request.reply == "r.5":
            await is_over.wait()
        return request.data

    server = Server(burst(), 5)
    server.may_read.set()
    async with bounded(), scripted_server(server.script) as url, natsery.connect(url) as nc:
        async with natsery.serve(nc, echo_service(stall_in_between)):
            await server.answered.wait()
            is_over.set()
    assert [number for number, _ in server.replies] == [0, 1, 2, 3, 4]


async def test_answers_of_several_workers_all_leave() -> None:
    async def later(request: natsery.Request) -> bytes:
        await anyio.lowlevel.checkpoint()
        return request.data

    server = Server(burst(100), 100)
    server.may_read.set()
    async with bounded(), scripted_server(server.script) as url, natsery.connect(url) as nc:
        async with natsery.serve(nc, echo_service(later, concurrency=16)):
            await server.answered.wait()
    assert sorted(number for number, _ in server.replies) == list(range(100))


async def test_an_answer_to_a_server_that_has_gone_breaks_nothing() -> None:
    servers = 0
    is_gone = anyio.Event()

    async def script(peer: Peer) -> None:
        nonlocal servers
        servers += 1
        await peer.greet()
        await peer.line_of(b"PING")
        await peer.send(b"PONG\r\n")
        if servers == 1:
            await peer.send(burst())
            is_gone.set()
            return  # closes, with answers on the way
        await peer.answer_pings()

    async def echo(request: natsery.Request) -> bytes:
        await is_gone.wait()
        return request.data

    async with bounded(), scripted_server(script) as url, natsery.connect(url, reconnect_wait=0.01) as nc:
        with nc.events() as events:
            async with natsery.serve(nc, echo_service(echo)) as service:
                async for event in events:
                    if event.kind is EventKind.RECONNECTED:
                        break
                await nc.flush()
                assert service.stats().endpoints[0].num_requests == COUNT
                assert service.stats().endpoints[0].num_errors == 0


async def test_what_a_handler_makes_of_the_reply_subject_is_no_other_command(nats_server: NatsServer) -> None:
    async def forge(request: natsery.Request) -> bytes:
        request.reply = "x 0\r\n\r\nPUB forged"
        return b"1"

    async def forge_and_respond(request: natsery.Request) -> None:
        request.reply = "x 0\r\n\r\nPUB forged"
        await request.respond(b"1")

    config = natsery.ServiceConfig("forger", "1.0.0", endpoints=[forge, forge_and_respond])
    async with bounded(), natsery.connect(nats_server.url) as nc, nc.subscribe("forged") as forged:
        async with natsery.serve(nc, config) as service:
            assert (await nc.request("forge")).data == b"1"
            await nc.publish("forge_and_respond", reply="nobody")
            await nc.flush()
            await nc.publish("forged", b"the only one")
            assert (await forged.receive()).data == b"the only one"
            assert [each.num_errors for each in service.stats().endpoints] == [0, 1]


async def test_refusals_that_are_larger_than_the_server_takes_are_counted_in_one_report() -> None:
    """They are written where messages are taken, which goes on."""
    begun, go_on = anyio.Event(), anyio.Event()
    told: list[str] = []

    @natsery.endpoint(pending_messages=1)
    async def slow(request: natsery.Request) -> bytes:
        begun.set()
        await go_on.wait()
        return request.data

    served = natsery.ServiceConfig(
        "echo", "1.0.0", endpoints=[slow], error_handler=lambda error, *_: told.append(str(error))
    )
    with NatsServer("max_payload: 40") as server:
        async with bounded(), natsery.connect(server.url) as nc, nc.subscribe("replies") as replies:
            async with natsery.serve(nc, served) as service:
                await nc.publish("slow", b"1", reply="replies")
                await begun.wait()
                for number in (b"2", b"3", b"4"):
                    await nc.publish("slow", number, reply="replies")
                await nc.flush()
                go_on.set()
            assert [(await replies.receive()).data for _ in range(2)] == [b"1", b"2"]
    assert told[1:] == ["2 refused requests got no answer, because the connection did not take it"]
    assert service.stats().endpoints[0].failures == {"overloaded": 2}


@pytest.mark.parametrize("takes_ns", [1_000, 1_000_000])
async def test_an_answer_that_took_long_waits_for_no_other(takes_ns: int) -> None:
    """Many requests at once to a handler that computes: the first one was answered when all were."""
    now = 1
    waiting: list[int] = []

    async def compute(request: natsery.Request) -> bytes:
        nonlocal now
        now += takes_ns
        waiting.append(nc._write_buffer.count)
        return request.data

    clock = natsery.Clock(monotonic_ns=lambda: now)
    server = Server(burst(), COUNT)
    server.may_read.set()
    async with bounded(), scripted_server(server.script) as url, natsery.connect(url) as nc:
        async with natsery.serve(nc, replace(echo_service(compute), clock=clock)):
            await server.answered.wait()
    assert server.replies == [(number, 1) for number in range(COUNT)]
    assert waiting == ([0] * COUNT if takes_ns > HOLD_NS else [*range(COUNT)])


COMPUTES_NS = 1_000_000
"""More than answers wait for others."""


class Computing:
    """Handlers that compute, by a clock of their own, and note how many answers are waiting when they begin."""

    def __init__(self, nc: natsery.NativeConnection) -> None:
        self.waiting: list[int] = []
        self._nc = nc
        self._now = 1
        self.clock = natsery.Clock(monotonic_ns=lambda: self._now)

    def compute(self) -> None:
        self.waiting.append(self._nc._write_buffer.count)
        self._now += COMPUTES_NS

    async def at_once(self, request: natsery.Request) -> bytes:
        self.compute()
        return request.data

    async def after_waiting(self, request: natsery.Request) -> bytes:
        await anyio.lowlevel.checkpoint()
        return await self.at_once(request)

    async def in_vain(self, request: natsery.Request) -> bytes:
        self.compute()
        raise natsery.ServiceError(400, "no")

    async def in_parts(self, request: natsery.Request) -> None:
        for _ in range(COUNT):
            self.compute()
            await request.respond(request.data)

    async def streamed(self, request: natsery.Request) -> AsyncIterator[bytes]:
        for _ in range(COUNT):
            self.compute()
            yield b"1"


async def answers_waiting(
    handler: str, *, endpoints: int = 1, concurrency: int = 1, requests: int = COUNT
) -> list[int]:
    """Send requests to services that compute; return how many answers waited while they did."""
    burst = b"".join(b"MSG e 1 r.%d 1\r\nx\r\n" % number for number in range(requests))
    if endpoints > 1:
        burst = b"".join(b"MSG e %d r.%d 1\r\nx\r\n" % (number + 1, number) for number in range(endpoints))
    is_over = anyio.Event()

    async def script(peer: Peer) -> None:
        await peer.greet(max_payload=1_000_000)
        await peer.line_of(b"PING")
        await peer.send(b"PONG\r\n" + burst)
        for _ in range(COUNT):
            await peer.line_of(b"PUB", b"HPUB")
        is_over.set()
        await peer.answer_pings()

    async with bounded(), scripted_server(script) as url, natsery.connect(url) as nc:
        computing = Computing(nc)
        handle = getattr(computing, handler)
        configs = [natsery.EndpointConfig(f"e{n}", handle, concurrency=concurrency) for n in range(endpoints)]
        config = natsery.ServiceConfig("e", "1.0.0", endpoints=configs, clock=computing.clock)
        async with natsery.serve(nc, config):
            await is_over.wait()
    return computing.waiting


async def test_answers_do_not_wait_while_other_endpoints_compute() -> None:
    """Requests to many endpoints at once: the first one was answered when all were."""
    assert await answers_waiting("at_once", endpoints=COUNT) == [0] * COUNT


async def test_answers_do_not_wait_while_other_workers_compute() -> None:
    """Handlers that wait for something and then compute: the first one was answered when all were."""
    assert await answers_waiting("after_waiting", concurrency=COUNT) == [0] * COUNT


async def test_errors_do_not_wait_while_other_endpoints_compute() -> None:
    assert await answers_waiting("in_vain", endpoints=COUNT) == [0] * COUNT


@pytest.mark.parametrize("handler", ["in_parts", "streamed"])
async def test_replies_do_not_wait_while_the_next_one_is_computed(handler: str) -> None:
    """A handler that computes each of several replies: the first one left with the sixty-fourth, or at the end."""
    waiting = await answers_waiting(handler, requests=1)
    assert waiting[1:] == [0] * (COUNT - 1)  # before the first one, the stream's own subscription does


async def test_an_answer_does_not_wait_for_what_computes_on_a_message_that_came_with_the_request() -> None:
    """On trio every second one left when the receiver of a subscription next waited."""
    rounds = 30
    waiting: list[int] = []

    async def echo(request: natsery.Request) -> bytes:
        return request.data

    async def script(peer: Peer) -> None:
        await peer.greet()
        for _ in range(2):  # the subscription, and the service
            await peer.line_of(b"PING")
            await peer.send(b"PONG\r\n")
        await peer.line_of(b"PUB ready")
        for number in range(rounds):
            await peer.send(b"MSG noise 1 1\r\nx\r\nMSG echo 2 r.%d 1\r\n1\r\n" % number)
            await replies(peer, 1)
        await peer.answer_pings()

    async with bounded(), scripted_server(script) as url, natsery.connect(url) as nc:
        async with nc.subscribe("noise") as messages, natsery.serve(nc, echo_service(echo)):
            await nc.publish("ready")
            for _ in range(rounds):
                await messages.receive()
                waiting.append(nc._write_buffer.count)
    assert waiting == [0] * rounds
