"""What a server that takes nothing any more leaves unsent: it has a bound, whoever sends and is cancelled."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import pytest

import natsery
from natsery._native._write_buffer import HIGH_WATER_BYTES, WriteBuffer

from ..bounds import bounded
from ..certificates import Certificates
from .scripted import Peer, scripted_server
from .tools import QUICK

pytestmark = pytest.mark.anyio

SIZE = 60_000
BOUND = HIGH_WATER_BYTES + SIZE + 1_000


class Stubborn:
    """Takes nothing until told to, and remembers what it has taken then.

    Args:
        certificates: for TLS, if there is to be any.

    Attributes:
        may_take: set it to have it read.
        taken: the verb and subject of each command.
    """

    def __init__(self, certificates: Certificates | None = None) -> None:
        self._certificates = certificates
        self.may_take = anyio.Event()
        self.taken: list[bytes] = []
        self.peer: Peer | None = None

    async def script(self, peer: Peer) -> None:
        self.peer = peer
        await peer.send_info(max_payload=100_000, tls_required=self._certificates is not None)
        if self._certificates is not None:
            await peer.start_tls(self._certificates)
        await peer.accept()
        await self.may_take.wait()
        while True:
            verb, *fields = (await peer.line()).split()
            self.taken.append(b" ".join([verb, *fields[:1]]))
            if verb == b"PUB":
                await peer.line()
            elif verb == b"PING":
                await peer.send(b"PONG\r\n")


@asynccontextmanager
async def filled(certificates: Certificates | None) -> AsyncIterator[tuple[natsery.NativeConnection, Stubborn]]:
    """A connection whose output buffer is over its high-water mark."""
    stubborn = Stubborn(certificates)
    options = {**QUICK, **({"tls": certificates.client_context()} if certificates is not None else {})}
    async with scripted_server(stubborn.script) as url, natsery.connect(url, **options) as nc:
        await nc.add_subscription("before", print)
        while nc.pending_bytes <= HIGH_WATER_BYTES:
            while nc.pending_bytes <= HIGH_WATER_BYTES:
                await nc.publish("filling", bytes(SIZE))
            await anyio.wait_all_tasks_blocked()  # the operating system takes what it can
        yield nc, stubborn
        stubborn.may_take.set()
        await nc.flush()


@pytest.fixture(params=["plain", "TLS"])
def tls(request: pytest.FixtureRequest, certificates: Certificates) -> Certificates | None:
    return certificates if request.param == "TLS" else None


async def subscribe(nc: natsery.NativeConnection) -> None:
    async with nc.subscribe("cancelled"):
        pytest.fail("the server has answered")


SENDERS: dict[str, Callable[[natsery.NativeConnection], Awaitable[object]]] = {
    "publish": lambda nc: nc.publish("cancelled", bytes(SIZE)),
    "request": lambda nc: nc.request("cancelled", bytes(SIZE)),
    "flush": lambda nc: nc.flush(),
    "add_subscription": lambda nc: nc.add_subscription("cancelled", print),
    "subscribe": subscribe,
}


@pytest.mark.parametrize("name", SENDERS)
async def test_senders_that_are_cancelled_leave_nothing(name: str, tls: Certificates | None) -> None:
    """Two hundred callers of a frozen server left their requests, which were all delivered when it was back."""
    async with bounded(), filled(tls) as (nc, stubborn):
        before = nc.statistics().out_messages
        for _ in range(4):
            async with anyio.create_task_group() as tasks:
                for _ in range(50):
                    tasks.start_soon(SENDERS[name], nc)
                await anyio.wait_all_tasks_blocked()
                tasks.cancel_scope.cancel()
        assert nc.pending_bytes <= BOUND
        assert nc.statistics().out_messages == before
        assert not nc._requests._pending
        stubborn.may_take.set()
        await nc.flush()
        assert b"PUB filling" in stubborn.taken
        assert not [each for each in stubborn.taken if each.endswith(b"cancelled")]
        assert stubborn.taken.count(b"PING") == 1


async def test_senders_that_wait_have_their_turn_one_after_another(tls: Certificates | None) -> None:
    """Each of those that waited was let through at once, whatever the others had sent."""
    most = 0

    async def publish(nc: natsery.NativeConnection) -> None:
        nonlocal most
        await nc.publish("waiting", bytes(SIZE))
        most = max(most, nc.pending_bytes)

    async with bounded(), filled(tls) as (nc, stubborn):
        async with anyio.create_task_group() as tasks:
            for _ in range(200):
                tasks.start_soon(publish, nc)
            await anyio.wait_all_tasks_blocked()
            stubborn.may_take.set()
        await nc.flush()
        assert stubborn.taken.count(b"PUB waiting") == 200
    assert most <= BOUND


async def test_senders_that_wait_do_not_wake_one_another(
    monkeypatch: pytest.MonkeyPatch, tls: Certificates | None
) -> None:
    """All of them were woken whenever there was room for a few: 4,000 senders kept the event loop for ten seconds."""
    senders = 500
    looks = 0
    may_send = WriteBuffer._may_send

    def look(self: WriteBuffer) -> bool:
        nonlocal looks
        looks += 1
        return may_send(self)

    monkeypatch.setattr(WriteBuffer, "_may_send", look)
    async with bounded(), filled(tls) as (nc, stubborn):
        looks = 0
        async with anyio.create_task_group() as tasks:
            for _ in range(senders):
                tasks.start_soon(nc.publish, "waiting", bytes(SIZE))
            await anyio.wait_all_tasks_blocked()
            stubborn.may_take.set()
        assert looks < 3 * senders


async def test_a_server_that_asks_and_does_not_read_fills_no_memory(tls: Certificates | None) -> None:
    """Each of its PINGs left a PONG in the output buffer."""
    async with bounded(), filled(tls) as (nc, stubborn):
        before = nc.pending_bytes
        assert stubborn.peer is not None
        received = nc.statistics().in_bytes
        await stubborn.peer.send(b"PING\r\n" * 10_000)
        while nc.statistics().in_bytes < received + 60_000:
            await anyio.lowlevel.checkpoint()
        assert nc.pending_bytes == before + len(b"PONG\r\n")
        stubborn.may_take.set()
        await nc.flush()
        assert stubborn.taken.count(b"PONG") == 1


AWAY = {"reconnect_wait": 1_000_000, "max_reconnect_wait": 1_000_000}
"""Options for those who do not want to see a connection come back."""


async def test_flushes_that_are_cancelled_while_the_server_is_away_leave_nothing() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()

    async with bounded(), scripted_server(script) as url, natsery.connect(url, **AWAY) as nc:
        with nc.events() as events:
            async for event in events:
                if event.kind is natsery.EventKind.DISCONNECTED:
                    break
        for _ in range(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(nc.flush)
                await anyio.wait_all_tasks_blocked()
                tasks.cancel_scope.cancel()
        assert not nc._fences
        nc._scope.cancel()
