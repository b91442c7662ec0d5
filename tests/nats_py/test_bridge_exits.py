"""The end of a bridge: bounded whatever nats-py and the server do, and with nothing left of it."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
import nats.errors
import pytest
from nats.aio.client import Client

import natsery
from natsery._nats_py import _bridge, _worker_thread

from ..bounds import bounded
from ..server import NatsServer
from .filling import MESSAGES, filling, stop_draining

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["trio", "asyncio"])
def setting(request: pytest.FixtureRequest) -> object:
    return (request.param, {}), "bridged"


@pytest.fixture
def short_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_worker_thread, "CLOSE_SECONDS", 0.1)
    monkeypatch.setattr(_worker_thread, "CANCEL_SECONDS", 0.1)


@pytest.fixture(autouse=True)
def threads(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[list[_worker_thread.WorkerThread]]:
    """The threads of all bridges of the test; each has closed its loop in the end, and asyncio complains of nothing."""
    made: list[_worker_thread.WorkerThread] = []
    init = _worker_thread.WorkerThread.__init__

    def note(self: _worker_thread.WorkerThread, *args: object, **options: object) -> None:
        init(self, *args, **options)
        made.append(self)

    monkeypatch.setattr(_worker_thread.WorkerThread, "__init__", note)
    yield made
    assert made
    assert all(thread.loop.is_closed() for thread in made)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("natsery bridge")]
    made.clear()
    gc.collect()
    assert not [record for record in caplog.records if record.name == "asyncio"]


@asynccontextmanager
async def silent_server(connections: list[object]) -> AsyncIterator[str]:
    """Takes connections and never says a word."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:

        async def hold(stream: anyio.abc.SocketStream) -> None:
            async with stream:
                connections.append(stream)
                await anyio.sleep_forever()

        tasks.start_soon(listener.serve, hold)
        yield f"nats://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(("count", "size"), [(1, 10), (1_000, 10), (120, 100_000)])
async def test_what_was_published_right_before_the_end_arrives(nats_server: NatsServer, count: int, size: int) -> None:
    async with bounded(), natsery.connect(nats_server.url) as reader, reader.subscribe("x") as messages:
        async with natsery.bridge(nats_server.url) as nc:
            for number in range(count):
                await nc.publish("x", b"%0*d" % (size, number))
        for number in range(count):
            assert (await messages.receive()).data == b"%0*d" % (size, number)


async def test_the_threads_of_the_other_loop_have_ended(
    nats_server: NatsServer, threads: list[_worker_thread.WorkerThread]
) -> None:
    """nats-py resolves names there, and a function of the program's may run there when the bridge ends."""

    def outlast_the_loop() -> None:
        while not threads[0].loop.is_closed():
            time.sleep(0.001)
        time.sleep(0.05)

    async def start(client: Client) -> None:
        asyncio.get_running_loop().run_in_executor(None, outlast_the_loop)

    async with bounded(), natsery.bridge(f"nats://localhost:{nats_server.port}") as nc:
        await nc.call(start)


@pytest.mark.parametrize("messages", [0, 10, MESSAGES])
async def test_it_ends_when_the_server_is_frozen(short_bounds: None, messages: int) -> None:
    """The last are more than nats-py's buffer and the operating system's take, so that nats-py waits in its flush."""
    with NatsServer() as server:
        async with bounded(), natsery.bridge(server.url) as nc:
            server.freeze()
            async with filling(nc, messages):
                pass
        server.thaw()


@pytest.mark.parametrize("allow_reconnect", [True, False])
async def test_it_ends_when_the_server_has_died(allow_reconnect: bool) -> None:
    with NatsServer() as server:
        async with bounded(), natsery.bridge(server.url, allow_reconnect=allow_reconnect) as nc:
            await nc.publish("x", bytes(100_000))
            server.kill()


async def test_it_ends_while_nats_py_reconnects() -> None:
    with NatsServer() as server:
        async with bounded(), natsery.bridge(server.url, reconnect_time_wait=3600) as nc:
            with nc.events() as events:
                server.kill()
                async for event in events:
                    if event.kind is natsery.EventKind.DISCONNECTED:
                        break


async def test_what_nats_py_raises_while_it_closes_stays_there(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was raised when the server had died."""

    async def close(self: Client) -> None:
        raise ConnectionResetError

    async with bounded():
        async with natsery.bridge(nats_server.url) as nc:
            await nc.publish("x")
            monkeypatch.setattr(Client, "close", close)


async def test_a_refusing_server_leaves_nothing() -> None:
    with NatsServer("authorization { user: u, password: p }") as server:
        async with bounded():
            with pytest.raises(nats.errors.Error, match=r"(?i)authorization"):
                async with natsery.bridge(server.url, user="u", password="wrong", allow_reconnect=False):
                    pass


async def cancel_entering(bridge: AbstractAsyncContextManager[Any], begun: list[object]) -> None:
    """Enter a bridge, and cancel that once there is something in ``begun``."""

    async def enter() -> None:
        await bridge.__aenter__()
        pytest.fail("it was entered")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(enter)
        while not begun:
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()


async def test_entering_is_cancelled_while_it_connects() -> None:
    connections: list[object] = []
    async with bounded(), silent_server(connections) as url:
        await cancel_entering(natsery.bridge(url, connect_timeout=3600), connections)


async def test_entering_is_cancelled_at_once(nats_server: NatsServer) -> None:
    async with bounded():
        for turns in range(10):
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as tasks:

                    async def enter() -> None:
                        async with natsery.bridge(nats_server.url):
                            await anyio.sleep_forever()

                    tasks.start_soon(enter)
                    for _ in range(turns):
                        await anyio.lowlevel.checkpoint()
                    scope.cancel()


async def stubborn(cancellations: int) -> None:
    """Swallow so many cancellations, as nats-py's ``_flush_pending`` does with one."""
    while cancellations:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancellations -= 1


async def test_entering_is_cancelled_while_nats_py_swallows_that(
    monkeypatch: pytest.MonkeyPatch, short_bounds: None, caplog: pytest.LogCaptureFixture
) -> None:
    begun: list[object] = []

    async def connect(self: Client, *args: object, **options: object) -> None:
        begun.append(self)
        await stubborn(3)

    monkeypatch.setattr(Client, "connect", connect)
    monkeypatch.setattr(_worker_thread, "CANCEL_SECONDS", 5)
    async with bounded():
        await cancel_entering(natsery.bridge(), begun)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_task_that_never_ends_is_left_behind(
    nats_server: NatsServer, short_bounds: None, caplog: pytest.LogCaptureFixture
) -> None:
    left = []

    async def start(client: Client) -> None:
        left.append(asyncio.create_task(stubborn(1_000_000), name="stubborn"))

    async with bounded(), natsery.bridge(nats_server.url) as nc:
        await nc.call(start)
    left.clear()
    (record,) = (record for record in caplog.records if record.levelno >= logging.WARNING)
    assert "stubborn" in record.getMessage()


async def test_a_call_that_runs_at_the_end_is_cancelled(nats_server: NatsServer) -> None:
    raised = []

    async def call(nc: _bridge.BridgedConnection) -> None:
        try:
            await nc.call(lambda client: asyncio.sleep(3600))
        except natsery.ConnectionClosedError as error:
            raised.append(error)

    async with bounded(), anyio.create_task_group() as tasks:
        async with natsery.bridge(nats_server.url) as nc:
            tasks.start_soon(call, nc)
            await nc.flush()
    assert raised


async def test_a_call_that_waits_behind_a_full_buffer_can_be_cancelled(
    monkeypatch: pytest.MonkeyPatch, short_bounds: None
) -> None:
    """The cancellation waited behind what the frozen server did not take."""
    monkeypatch.setattr(_bridge, "CALL_CANCEL_SECONDS", 3600)
    with NatsServer() as server:
        async with bounded(), natsery.bridge(server.url) as nc:
            server.freeze()
            stop_draining(nc._client, monkeypatch)
            async with filling(nc):
                assert nc._is_full
                with anyio.move_on_after(0.05) as scope:
                    await nc.flush()
                assert scope.cancelled_caught
        server.thaw()
