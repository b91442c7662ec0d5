"""What a server does not take, and what waits while it is away, is bounded and counted."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import suppress

import anyio
import anyio.lowlevel
import pytest
from nats.aio.client import Client

import natsery
from natsery._nats_py import _bridge, _client_writer, _worker_thread
from natsery.abc import Connection
from natsery.testing import ServerProcessError

from ..bounds import HANG_SECONDS, bounded
from ..calc_service import config
from ..conftest import open_connection
from ..server import NatsServer

pytestmark = pytest.mark.anyio

SIZE = 100_000

HAS_FLOW_CONTROL = not ((3, 12) <= sys.version_info < (3, 12, 9) or (3, 13) <= sys.version_info < (3, 13, 2))
"""Whether asyncio's ``writelines`` lets nats-py know that the server takes nothing."""


@pytest.fixture(params=[("asyncio", "adapted"), ("asyncio", "bridged"), ("trio", "bridged")], ids="-".join)
def setting(request: pytest.FixtureRequest) -> object:
    backend, transport = request.param
    return (backend, {}), transport


@pytest.fixture
def frozen_server() -> Iterator[NatsServer]:
    with NatsServer() as server:
        yield server
        with suppress(ServerProcessError):  # it may have been killed
            server.thaw()


def unsent(nc: Connection) -> int:
    """Bytes that wait in nats-py and on the way to it."""
    waiting = nc.client.pending_data_size
    if isinstance(nc, natsery.BridgedConnection):
        waiting += nc._outbound.put_bytes - nc._outbound.taken_bytes
    return waiting


async def test_requests_that_are_given_up_do_not_fill_the_memory(
    transport: str, frozen_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each left its message behind: 200 callers that tried again made the buffer grow without end."""
    monkeypatch.setattr(_bridge, "HIGH_WATER_BYTES", 2 * 1024 * 1024)
    async with bounded(), open_connection(transport, frozen_server.url) as nc:
        await nc.flush()
        with pytest.raises(natsery.NoRespondersError):
            await nc.request("nobody")  # subscribes to the inbox
        frozen_server.freeze()
        most = 0
        for _ in range(5):
            async with anyio.create_task_group() as tasks:
                for _ in range(200):
                    tasks.start_soon(nc.request, "x", bytes(SIZE))
                await anyio.wait_all_tasks_blocked()
                tasks.cancel_scope.cancel()
            most = max(most, unsent(nc))
        assert most < 12 * 1024 * 1024
        if isinstance(nc, natsery.AdaptedConnection):
            assert len(nc._safe_client.writer._writing) <= 2
        frozen_server.thaw()
        await nc.flush()
        await nc.publish("x", b"")


async def test_replies_that_are_dropped_are_not_counted_as_good(
    transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bridge counted 1,896 of 2,000 replies as good that nats-py had no room for while the server was away."""
    monkeypatch.setattr(_bridge, "HIGH_WATER_BYTES", 1024 * 1024)
    requests = 200
    away = anyio.Event()

    @natsery.endpoint(concurrency=requests)
    async def slow(request: natsery.Request) -> bytes:
        await away.wait()
        return bytes(SIZE)

    with NatsServer() as server:
        options = {"reconnect_time_wait": 0.01, "max_reconnect_attempts": -1}
        async with bounded(), open_connection(transport, server.url, **options) as nc:
            async with natsery.serve(nc, config(slow)) as service:
                with nc.events() as events:
                    for _ in range(requests):
                        await nc.publish("slow", reply="answers")
                    while service.pending < requests:
                        await anyio.lowlevel.checkpoint()
                    before = nc.client.stats["out_msgs"]
                    server.kill()
                    async for event in events:
                        if event.kind is natsery.EventKind.DISCONNECTED:
                            break
                    away.set()
                    while service.pending:
                        await anyio.lowlevel.checkpoint()
                    server.restart()
                    async for event in events:
                        if event.kind is natsery.EventKind.RECONNECTED:
                            break
                    await nc.flush()
                    endpoint = service.stats().endpoints[0]
                    assert endpoint.num_requests == requests
                    assert endpoint.num_errors > 0
                    assert requests - endpoint.num_errors == nc.client.stats["out_msgs"] - before


async def test_headers_and_subjects_count_on_the_way_out(transport: str, nats_server: NatsServer) -> None:
    """311 MB of them waited behind a frozen server, where the bound is 8 MiB."""
    async with bounded(), open_connection(transport, nats_server.url) as nc:
        if not isinstance(nc, natsery.BridgedConnection):
            return
        before = nc._outbound.put_bytes
        await nc.publish("x" * 1_000, reply="y" * 1_000, headers={"A": "z" * 1_000})
        assert nc._outbound.put_bytes - before > 3_000
        before = nc._outbound.put_bytes
        assert nc._answer_nowait("y" * 1_000, b"")
        assert nc._refuse_nowait("y" * 1_000, natsery.Headers({"A": "z" * 1_000}))
        assert nc._outbound.put_bytes - before > 3_000
        await nc.flush()
        assert nc._outbound.put_bytes == nc._outbound.taken_bytes
        assert nc.client.stats["out_bytes"] == 0


async def test_headers_and_subjects_count_on_the_way_in(
    transport: str, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    if transport != "bridged":
        return
    monkeypatch.setattr(_worker_thread, "MAX_CROSSING_BYTES", 100_000)
    delivered: list[object] = []
    done = threading.Event()
    async with bounded(), natsery.bridge(nats_server.url) as nc:
        subscription = await nc.add_subscription("burst.*", delivered.append, on_error=lambda _: None)
        await nc.flush()

        async def burst() -> None:
            for _ in range(1_000):
                await nc.client.publish("burst." + "x" * 500, reply="y" * 500, headers={"A": "z" * 1_000})
            await nc._thread.aio_fence()
            done.set()

        nc._outbound.put(burst)
        nc._thread.wake()
        done.wait(HANG_SECONDS)  # this event loop is held, so that nothing is taken meanwhile
        await nc.flush()
        assert len(delivered) + subscription.dropped == 1_000
        assert len(delivered) <= 50
        assert nc._thread.inbound.put_bytes == nc._thread.inbound.taken_bytes


async def test_a_cancelled_flush_does_not_wait_for_the_other_loop(
    transport: str, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waited five seconds for a loop that was busy."""
    if transport != "bridged":
        return
    monkeypatch.setattr(_bridge, "CALL_CANCEL_SECONDS", 3600)
    is_held, release, is_over = threading.Event(), threading.Event(), threading.Event()

    async def hold(client: Client) -> None:
        is_held.set()
        release.wait(HANG_SECONDS)
        is_over.set()

    async with bounded(), natsery.bridge(nats_server.url) as nc, anyio.create_task_group() as tasks:
        tasks.start_soon(nc.call, hold)
        while not is_held.is_set():
            await anyio.lowlevel.checkpoint()
        async with anyio.create_task_group() as flushing:
            flushing.start_soon(nc.flush)
            await anyio.wait_all_tasks_blocked()
            flushing.cancel_scope.cancel()
        assert not is_over.is_set()
        release.set()
        await nc.flush()


async def test_senders_that_wait_all_have_their_turn(
    transport: str, frozen_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them were woken whenever there was room for a few, and looked again."""
    monkeypatch.setattr(_bridge, "HIGH_WATER_BYTES", 2 * 1024 * 1024)
    senders, flushes = 600, 0
    flush = _client_writer.ClientWriter._flush

    async def counted(self: _client_writer.ClientWriter) -> None:
        nonlocal flushes
        flushes += 1
        await flush(self)

    monkeypatch.setattr(_client_writer.ClientWriter, "_flush", counted)
    async with bounded(), open_connection(transport, frozen_server.url) as nc:
        await nc.flush()
        before = nc.client.stats["out_msgs"]
        frozen_server.freeze()
        async with anyio.create_task_group() as tasks:
            for _ in range(senders):
                tasks.start_soon(nc.publish, "x", bytes(SIZE))
            await anyio.wait_all_tasks_blocked()
            frozen_server.thaw()
        await nc.flush()
        assert nc.client.stats["out_msgs"] - before == senders
        assert flushes < 2 * senders


@pytest.mark.parametrize("end", ["close", "cut"])
async def test_senders_that_wait_are_told_when_the_connection_ends(
    transport: str, frozen_server: NatsServer, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """Senders through nats-py waited for as long as the server was away."""
    monkeypatch.setattr(_bridge, "HIGH_WATER_BYTES", 2 * 1024 * 1024)
    failed = sent = 0

    async def publish(nc: Connection) -> None:
        nonlocal failed, sent
        try:
            await nc.publish("x", bytes(SIZE))
            sent += 1
        except (natsery.ConnectionClosedError, natsery.PublishError):
            failed += 1

    options = {"reconnect_time_wait": 0.01, "max_reconnect_attempts": -1}
    async with bounded(), open_connection(transport, frozen_server.url, **options) as nc:
        await nc.flush()
        frozen_server.freeze()
        async with anyio.create_task_group() as tasks:
            for _ in range(300):
                tasks.start_soon(publish, nc)
            await anyio.wait_all_tasks_blocked()
            if end == "close":
                await nc.aclose()
            else:
                frozen_server.kill()
        assert failed + sent == 300
        assert failed > 100 or not HAS_FLOW_CONTROL
        if end == "cut":
            frozen_server.start()
            await nc.flush()
