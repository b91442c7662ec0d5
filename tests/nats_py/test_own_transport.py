"""The transport of a bridge's client: a quicker way out of its socket, and a second way into it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from urllib.parse import urlparse

import pytest

from natsery._nats_py._own_transport import OwnTransport

from ..test_serve import bounded

pytestmark = pytest.mark.anyio

SMALL_BUFFER = 4096


@pytest.fixture(params=[{"debug": True}, {"use_uvloop": True}], ids=["asyncio", "uvloop"])
def setting(request: pytest.FixtureRequest) -> object:
    return ("asyncio", request.param), "bridged"


class Reading:
    """Takes what comes, if it is in the mood."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.takes = True
        self.resets = 0

    def reset(self) -> None:
        self.resets += 1

    def take(self, data: bytes) -> bool:
        if self.takes:
            self.taken.append(data)
        return self.takes


class Peer:
    """The other end."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        connection.setblocking(False)
        self._loop = asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._connection, data)

    def receive_nowait(self) -> bytes:
        """What has come, without a turn of the event loop."""
        received = bytearray()
        while True:
            try:
                received += self._connection.recv(65_536)
            except BlockingIOError:
                return bytes(received)

    async def receive(self, size: int) -> bytes:
        """So many bytes, or fewer if it ends."""
        received = bytearray()
        while len(received) < size:
            data = await self._loop.sock_recv(self._connection, size - len(received))
            if not data:
                break
            received += data
        return bytes(received)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        yield listener


@asynccontextmanager
async def connected(transport: OwnTransport, listener: socket.socket) -> AsyncIterator[Peer]:
    """A peer to which the transport has connected."""
    await transport.connect(urlparse(f"nats://127.0.0.1:{listener.getsockname()[1]}"), 32_768, 5)
    connection, _ = await asyncio.get_running_loop().sock_accept(listener)
    with connection:
        yield Peer(connection)


async def flush(transport: OwnTransport) -> None:
    """As nats-py's flusher does it, until the operating system has all; some uvloops write a turn of the loop later."""
    while True:
        transport.writelines([])
        if transport._is_clear:
            return
        await asyncio.sleep(0)


@asynccontextmanager
async def opened(listener: socket.socket, reading: Reading | None = None) -> AsyncIterator[tuple[OwnTransport, Peer]]:
    """A transport over which nats-py has connected, and its peer."""
    transport = OwnTransport(reading or Reading())
    try:
        async with bounded(), connected(transport, listener) as peer:
            await flush(transport)
            yield transport, peer
    finally:
        transport.close()


async def test_the_second_way_opens_when_nats_py_has_connected(listener: socket.socket) -> None:
    """Before that, CONNECT and all subscriptions come first."""
    transport = OwnTransport(Reading())
    async with bounded(), connected(transport, listener) as peer:
        assert not transport.send_nowait(b"early")
        transport.write(b"CONNECT ")
        assert not transport.send_nowait(b"early")
        transport.writelines([b"SUB ", b"PUB "])
        await flush(transport)
        assert transport.send_nowait(b"late")
        assert await peer.receive(20) == b"CONNECT SUB PUB late"
        transport.close()
        assert not transport.send_nowait(b"closed")
        assert await peer.receive(1) == b""


async def test_what_the_network_does_not_take_at_once_follows_in_order(listener: socket.socket) -> None:
    large = bytes(range(256)) * 16_384
    async with opened(listener) as (transport, peer):
        assert transport.send_nowait(large)
        start = peer.receive_nowait()  # there is room now, but the rest has not been written
        assert not transport.send_nowait(b"overtakes")
        transport.write(b" after")
        assert not transport.send_nowait(b"overtakes")
        expected = large + b" after"
        assert start + await peer.receive(len(expected) - len(start)) == expected
        # The next that nats-py sends finds the way free.
        transport.writelines([b"a"])
        await flush(transport)
        assert transport.send_nowait(b"b")
        assert await peer.receive(2) == b"ab"


async def test_what_the_network_does_not_take_at_once_needs_no_help(listener: socket.socket) -> None:
    large = bytes(range(256)) * 16_384
    async with opened(listener) as (transport, peer):
        assert transport.send_nowait(large)
        assert await peer.receive(len(large)) == large


async def test_what_the_network_has_not_taken_yet_is_sent_before_the_end(listener: socket.socket) -> None:
    large = bytes(range(256)) * 16_384
    async with opened(listener) as (transport, peer):
        assert transport.send_nowait(large)
        transport.close()
        assert await peer.receive(len(large) + 1) == large


async def test_what_asyncio_has_not_sent_yet_is_not_overtaken(listener: socket.socket) -> None:
    large = bytes(range(256)) * 16_384
    async with opened(listener) as (transport, peer):
        transport.writelines([large])
        assert not transport.send_nowait(b"overtakes")
        assert await peer.receive(len(large)) == large


async def test_two_threads_mix_frames_and_not_their_parts(listener: socket.socket) -> None:
    count, size = 400, 1_000
    async with opened(listener) as (transport, peer):
        assert transport._socket is not None
        transport._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
        is_over = threading.Event()

        def send_from_here() -> None:
            for number in range(count):
                while not transport.send_nowait(b"t%0*d" % (size - 1, number)):
                    if is_over.wait(0.0001):
                        return

        sender = asyncio.create_task(asyncio.to_thread(send_from_here))
        reader = asyncio.create_task(peer.receive(2 * count * size))
        try:
            for number in range(count):
                transport.writelines([b"l%0*d" % (size - 1, number)])
                await asyncio.sleep(0)
            while not sender.done():
                transport.writelines([])  # finds out that there is room
                await asyncio.sleep(0)
            received = await reader
        finally:
            is_over.set()
    frames = [received[start : start + size] for start in range(0, len(received), size)]
    for kind in (b"t", b"l"):
        expected = [b"%b%0*d" % (kind, size - 1, number) for number in range(count)]
        assert [each for each in frames if each.startswith(kind)] == expected


async def test_a_second_connection_begins_anew_and_ends_the_first(listener: socket.socket) -> None:
    reading = Reading()
    async with opened(listener, reading) as (transport, first):
        before = reading.resets
        async with connected(transport, listener) as second:
            assert reading.resets == before + 1
            assert await first.receive(1) == b""
            assert not transport.send_nowait(b"early")
            await flush(transport)
            assert transport.send_nowait(b"late")
            assert await second.receive(4) == b"late"


async def test_a_broken_connection_is_left_for_asyncio_to_find(listener: socket.socket) -> None:
    async with opened(listener) as (transport, peer):
        peer._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer._connection.close()
        with pytest.raises(ConnectionResetError):
            await transport.read(100)
        assert not transport.send_nowait(b"lost")


async def test_what_comes_is_offered_once_nats_py_reads(listener: socket.socket) -> None:
    reading = Reading()
    async with opened(listener, reading) as (transport, peer):
        await peer.send(b"INFO\r\nPONG\r\n")
        assert await transport.readline() == b"INFO\r\n"
        assert await transport.readline() == b"PONG\r\n"
        assert reading.taken == []
        reader = asyncio.create_task(transport.read(100))
        await asyncio.sleep(0)
        for data in (b"one", b"two"):
            await peer.send(data)
            while not reading.taken or reading.taken[-1] != data:
                await asyncio.sleep(0)
        assert not reader.done()
        reading.takes = False
        await peer.send(b"three")
        assert await reader == b"three"
        assert reading.taken == [b"one", b"two"]


async def test_what_comes_behind_something_unread_waits_too(listener: socket.socket) -> None:
    reading = Reading()
    async with opened(listener, reading) as (transport, peer):
        reading.takes = False
        reader = asyncio.create_task(transport.read(2))
        await asyncio.sleep(0)
        await peer.send(b"three")
        assert await reader == b"th"
        reading.takes = True
        await peer.send(b"four")
        while transport._unread_bytes < 7:
            await asyncio.sleep(0)
        assert await transport.read(100) == b"reefour"
        assert reading.taken == []
        reader = asyncio.create_task(transport.read(100))
        await peer.send(b"five")
        while not reading.taken:
            await asyncio.sleep(0)
        assert reading.taken == [b"five"]
        reader.cancel()


async def test_the_end_of_the_stream_reaches_nats_py(listener: socket.socket) -> None:
    async with opened(listener) as (transport, peer):
        reader = asyncio.create_task(transport.read(100))
        await asyncio.sleep(0)
        peer._connection.close()
        assert await reader == b""
        assert transport.at_eof()
