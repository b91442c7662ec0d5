"""Workers that go on in the place of the task that receives, and what interrupts that."""

from __future__ import annotations

import socket
import ssl
import types
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
import pytest
import trio

import natsery
from natsery._backends import is_trio
from natsery._backends._trio_handover import ReceivingWakeup, TrioHandover
from natsery._backends._trio_stream import TrioStream
from natsery._native._handshake import direct_stream
from natsery._native._native_connection import NativeConnection

from ..bounds import bounded
from ..certificates import Certificates
from ..server import NatsServer
from .scripted import Peer, scripted_server

pytestmark = pytest.mark.anyio


def config(*endpoints: natsery.EndpointConfig) -> natsery.ServiceConfig:
    return natsery.ServiceConfig("calc", "1.0.0", endpoints=endpoints)


def endpoint(name: str, handler) -> natsery.EndpointConfig:
    return natsery.EndpointConfig(name, handler)


async def echo(request: natsery.Request) -> bytes:
    return request.data


@dataclass(frozen=True)
class Place:
    """Where to connect to, and how."""

    url: str
    tls: ssl.SSLContext | bool = False

    def connect(self):
        return natsery.connect(self.url, tls=self.tls)


@pytest.fixture(scope="module", params=["plain", "TLS"])
def place(nats_server: NatsServer, certificates: Certificates, request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.param == "plain":
        yield Place(nats_server.url)
        return
    with NatsServer(certificates.server_config()) as server:
        yield Place(server.url, certificates.client_context())


@asynccontextmanager
async def two_connections(place: Place):
    async with place.connect() as server, place.connect() as client:
        yield server, client


async def ask(client: natsery.abc.Connection, subject: str, times: int = 3) -> None:
    """More than once: the worker that has answered is the one that receives the next."""
    for number in range(times):
        data = b"%d" % number
        assert (await client.request(subject, data)).data == data


async def test_a_handler_that_waits_for_a_message_of_its_own_connection_gets_it(place: Place) -> None:
    async def forward(request: natsery.Request) -> bytes:
        return (await request.connection.request("echo", request.data)).data

    async with bounded(), two_connections(place) as (server, client):
        async with natsery.serve(server, config(endpoint("echo", echo), endpoint("forward", forward))):
            await ask(client, "echo")
            await ask(client, "forward")
            await ask(client, "echo")


async def test_a_walk_along_the_stack_of_a_task_comes_to_what_its_handler_waits_for(place: Place) -> None:
    """It ended at the compiled loop. On asyncio, and over other connections, it still does: docs/limits.md."""
    found: list[trio.lowlevel.Task] = []
    may_go_on = anyio.Event()

    async def wait_inside() -> None:
        await may_go_on.wait()

    async def hold(request: natsery.Request) -> bytes:
        found.append(trio.lowlevel.current_task())
        await wait_inside()
        return b""

    async with bounded(), two_connections(place) as (server, client):
        if not is_trio():
            pytest.skip("asyncio shows the outermost frame alone")
        async with natsery.serve(server, config(endpoint("hold", hold))), anyio.create_task_group() as tasks:
            tasks.start_soon(client.request, "hold")
            while not found:
                await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()
            names = [frame.f_code.co_name for frame, _ in found[0].iter_await_frames()]
            may_go_on.set()
    assert names[names.index("_work") :][:4] == ["_work", "work", "hold", "wait_inside"]


async def test_a_handler_that_waits_for_something_else_holds_up_nobody(place: Place) -> None:
    may_go_on, waits = anyio.Event(), anyio.Event()

    async def slow(request: natsery.Request) -> bytes:
        if request.data == b"2":
            waits.set()
            await may_go_on.wait()
        return request.data

    async with bounded(), two_connections(place) as (server, client):
        async with natsery.serve(server, config(endpoint("slow", slow), endpoint("echo", echo))):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask, client, "slow")
                await waits.wait()
                await ask(client, "echo")
                may_go_on.set()


async def test_an_idle_service_ends_and_leaves_the_connection_to_the_others(place: Place) -> None:
    async with bounded(), two_connections(place) as (server, client):
        async with natsery.serve(server, config(endpoint("echo", echo))):
            async with natsery.serve(server, config(endpoint("first", echo))):
                await ask(client, "first")
            await ask(client, "echo")
            with anyio.CancelScope() as scope:
                async with natsery.serve(server, config(endpoint("second", echo))) as service:
                    await ask(client, "second")
                    await service.endpoints[0].remove()
                    await ask(client, "echo")
                    extra = await service.add_endpoint(endpoint("third", echo))
                    await ask(client, "third")
                    assert extra.pending == 0
                    scope.cancel()
            await ask(client, "echo")
            async with server.subscribe("events") as events:
                await client.publish("events", b"x")
                assert (await events.receive()).data == b"x"


async def test_a_connection_that_breaks_while_a_worker_receives_is_opened_again(place: Place) -> None:
    async with bounded(), two_connections(place) as (server, client):
        async with natsery.serve(server, config(endpoint("echo", echo))):
            for _ in range(3):
                await ask(client, "echo")
                with server.events() as events:
                    assert isinstance(server, NativeConnection)
                    assert server._session is not None
                    server._session.link.socket.shut_down()
                    async for event in events:
                        if event.kind is natsery.EventKind.RECONNECTED:
                            break
                await server.flush()
                await ask(client, "echo")


async def test_what_the_server_sends_wrong_to_a_worker_ends_the_network_connection() -> None:
    connections = 0

    async def script(peer: Peer) -> None:
        nonlocal connections
        connections += 1
        await peer.greet()
        sids = {}
        while len(sids) < 1:
            line = await peer.line()
            if line.startswith(b"SUB echo "):
                sids["echo"] = line.split()[-1]
            elif line.startswith(b"PING"):
                await peer.send(b"PONG\r\n")
        if connections == 1:
            for _ in range(3):
                await peer.send(b"MSG echo %b reply 1\r\nx\r\n" % sids["echo"])
                while not (line := await peer.line()).startswith(b"PUB reply"):
                    if line.startswith(b"PING"):
                        await peer.send(b"PONG\r\n")
            await peer.send(b"MSG echo what is this\r\n")
        else:
            second.set()
        await peer.answer_pings()

    second = anyio.Event()
    async with bounded(), scripted_server(script) as url:
        async with natsery.connect(url, reconnect_wait=0.01) as server:
            async with natsery.serve(server, config(endpoint("echo", echo)), grace=0):
                await second.wait()
                assert connections == 2


async def test_a_worker_is_woken_by_another_connection_of_its_own(place: Place) -> None:
    """As while the server is left for another one: what wakes it does not come over the stream that it receives from."""
    async with bounded(), two_connections(place) as (server, client):
        async with natsery.serve(server, config(endpoint("echo", echo))) as service:
            await ask(client, "echo")
            await anyio.wait_all_tasks_blocked()
            queue = service.endpoints[0]._queue
            queue.deliver(natsery.Request("echo", b"x", ""))
            await anyio.wait_all_tasks_blocked()
            assert queue.pending == 0
            await ask(client, "echo")


# What a worker does in the place of the task that receives: on trio alone, where another one can

on_trio = pytest.mark.parametrize("anyio_backend", [("trio", {})], ids=["trio"])


class Lent:
    """A stream that is lent to a worker.

    Attributes:
        stream: the stream.
        far: its other end.
        worker: the wake-up that the worker waits with.
        taken: what was received.
    """

    def __init__(self, stream: TrioStream, far: socket.socket) -> None:
        self.stream = stream
        self.far = far
        self.handover = TrioHandover()
        self.worker: ReceivingWakeup = self.handover.new_wakeup()
        self.taken: list[bytes] = []
        self.owner = trio.CancelScope()
        self.times_woken = 0

    def take(self, chunk: bytes | memoryview) -> bool:
        self.handover.begin()
        self.taken.append(bytes(chunk))
        if chunk == b"work":
            self.worker.set()
        self.handover.end(self.stream)
        return False

    async def own(self) -> None:
        with self.owner:
            await self.stream.receive_into(self.take)

    async def work(self) -> None:
        while True:
            await self.worker.wait()
            self.times_woken += 1


@pytest.fixture
async def lent(anyio_backend: object) -> AsyncIterator[Lent]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = await anyio.connect_tcp("127.0.0.1", listener.getsockname()[1])
        far, _ = listener.accept()
        stream = direct_stream(near)
        assert isinstance(stream, TrioStream)
        lent = Lent(stream, far)
        with far:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lent.own)
                nursery.start_soon(lent.work)
                await anyio.wait_all_tasks_blocked()
                far.sendall(b"work")
                while stream.borrower is None:
                    await anyio.lowlevel.checkpoint()
                await anyio.wait_all_tasks_blocked()
                yield lent
                nursery.cancel_scope.cancel()
            await stream.aclose()


@on_trio
async def test_a_worker_takes_nothing_once_the_session_has_ended(lent: Lent) -> None:
    async with bounded():
        lent.owner.cancel()
        await anyio.wait_all_tasks_blocked()
        lent.far.sendall(b"late")
        while lent.stream.borrower is not None:
            await anyio.lowlevel.checkpoint()
        lent.worker.set()
        await anyio.wait_all_tasks_blocked()
        assert (lent.taken, lent.times_woken) == ([b"work"], 2)


@on_trio
async def test_a_worker_that_is_woken_by_something_else_goes_on_at_once(lent: Lent) -> None:
    async with bounded():
        lent.worker.set()
        await anyio.wait_all_tasks_blocked()
        assert lent.times_woken == 2
        lent.far.sendall(b"more")
        while len(lent.taken) < 2:
            await anyio.lowlevel.checkpoint()
        assert lent.taken == [b"work", b"more"]


@on_trio
async def test_a_worker_that_is_woken_by_something_else_leaves_a_sender_waiting(lent: Lent) -> None:
    """What interrupts the one who receives also wakes the one who sends."""
    data = bytes(10_000_000)
    received = bytearray()

    def receive() -> None:
        while len(received) < len(data):
            received.extend(lent.far.recv(1_000_000))

    async with bounded(), anyio.create_task_group() as tasks:
        tasks.start_soon(lent.stream.send, data)
        await anyio.wait_all_tasks_blocked()
        lent.worker.set()
        await anyio.wait_all_tasks_blocked()
        assert lent.times_woken == 2
        await anyio.to_thread.run_sync(receive)
    assert received == data


@types.coroutine
def foreign() -> Generator[object, None, None]:
    yield "what only another event loop understands"


async def test_a_handler_that_waits_for_what_its_event_loop_does_not_know_fails_alone(place: Place) -> None:
    async def confused(request: natsery.Request) -> None:
        await foreign()

    async with bounded(), place.connect() as nc, place.connect() as other:
        async with natsery.serve(nc, config(endpoint("confused", confused), endpoint("echo", echo))) as service:
            client = natsery.ServiceClient(other)
            for _ in range(2):
                with pytest.raises(natsery.ServiceError) as caught:
                    await client.request("confused")
                assert caught.value.code == 500
                assert (await client.request("echo", b"x")).data == b"x"
    assert [each.num_errors for each in service.stats().endpoints] == [2, 0]
