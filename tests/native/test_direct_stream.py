"""The streams that connections work on: all that comes, all that goes, and every end that they can have."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from types import SimpleNamespace
from typing import cast

import anyio
import pytest
import trio
from anyio.abc import ByteStream, SocketStream

import natsery
from natsery._backends import _asyncio_stream, is_trio
from natsery._backends._asyncio_stream import take_over
from natsery._backends._direct_stream import LARGE_RECEIVE_BYTES, RECEIVE_BYTES, DirectStream
from natsery._backends._tls_stream import TlsStream
from natsery._native._handshake import direct_stream
from natsery._native._native_connection import NativeConnection

from ..bounds import bounded
from ..calc_service import add, config
from ..certificates import Certificates
from ..server import NatsServer
from .direct_streams import VERSIONS, receive_until_end, shake_hands
from .tools import QUICK, Events

pytestmark = pytest.mark.anyio


PLENTY = bytes(10_000_000)
"""More than the buffers of the operating system hold, which may have some room again after they were full."""


class Pair:
    """The two ends of a connection; ours has read one byte already, as after a handshake."""

    def __init__(self, near: ByteStream, far: socket.socket) -> None:
        self.near = cast("DirectStream", direct_stream(near))
        self.far = far


@pytest.fixture(params=["plain", *VERSIONS])
def version(request: pytest.FixtureRequest) -> ssl.TLSVersion | None:
    """The version of TLS, if there is to be any."""
    return VERSIONS.get(request.param)


@pytest.fixture
async def pair(version: ssl.TLSVersion | None, certificates: Certificates) -> AsyncIterator[Pair]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near: ByteStream = await anyio.connect_tcp("127.0.0.1", listener.getsockname()[1])
        far, _ = listener.accept()
        if version is not None:
            near, far = await shake_hands(near, far, version, certificates)
        with far:
            far.sendall(b"!and what came with it;")
            assert await near.receive(1) == b"!"
            pair = Pair(near, far)
            yield pair
            await pair.near.aclose()


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
async def test_connections_have_one(secure: bool, certificates: Certificates) -> None:
    with NatsServer(certificates.server_config() if secure else "") as server:
        tls = certificates.client_context() if secure else False
        async with bounded(), natsery.connect(server.url, tls=tls) as nc:
            assert isinstance(nc, NativeConnection)
            assert nc._session is not None
            assert isinstance(nc._session.link.stream, TlsStream if secure else DirectStream)


def test_a_stream_of_anyio_that_is_not_as_known_is_left_as_it_is() -> None:
    assert take_over(cast("SocketStream", SimpleNamespace())) is None


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
async def test_connections_and_services_work_on_a_stream_of_anyio_that_is_not_as_known(
    secure: bool, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_asyncio_stream, "_KNOWN_STATE", ("unknown",))
    with NatsServer(certificates.server_config() if secure else "") as server:
        tls = certificates.client_context() if secure else False
        async with bounded(), natsery.connect(server.url, tls=tls, **QUICK) as nc:
            assert isinstance(nc, NativeConnection)
            assert nc._session is not None
            assert isinstance(nc._session.link.stream, DirectStream) is is_trio()
            events = Events(nc)
            async with natsery.serve(nc, config(add)):
                for _ in range(2):
                    replies = [(await nc.request("add", b"%d+1" % number)).data for number in range(10)]
                    assert replies == [b"%d" % (number + 1) for number in range(10)]
                    server.restart()
                    await events.wait(natsery.EventKind.RECONNECTED)
                    events.seen.clear()
                    await nc.flush()


async def test_a_stream_whose_end_has_been_read_says_so_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = await anyio.connect_tcp("127.0.0.1", listener.getsockname()[1])
        far, _ = listener.accept()
        far.close()
        async with bounded():
            with pytest.raises(anyio.EndOfStream):
                await near.receive(1)
            stream = cast("DirectStream", direct_stream(near))
            assert isinstance(await receive_until_end(stream, []), anyio.EndOfStream)
            await stream.aclose()


async def test_what_was_received_before_comes_first_and_the_end_is_told(pair: Pair) -> None:
    received: list[bytes] = []
    pair.far.sendall(b"more")
    pair.far.shutdown(socket.SHUT_WR)
    async with bounded():
        end = await receive_until_end(pair.near, received)
    assert isinstance(end, anyio.EndOfStream)
    assert b"".join(received) == b"and what came with it;more"


async def test_a_piece_larger_than_the_buffer_comes_whole(pair: Pair) -> None:
    received: list[bytes] = []
    data = bytes(range(256)) * 4096

    def send() -> None:
        pair.far.sendall(data)
        pair.far.shutdown(socket.SHUT_WR)

    async with bounded(), anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, send)
        await receive_until_end(pair.near, received)
    assert b"".join(received) == b"and what came with it;" + data


async def test_tasks_have_their_turns_while_much_comes(pair: Pair) -> None:
    pair.far.setblocking(False)
    size = 0
    with suppress(BlockingIOError, ssl.SSLWantWriteError):
        while True:
            size += pair.far.send(bytes(16_384))
    assert size > 1_000_000
    turns = 0
    seen: list[int] = []
    received = 0

    def take(data: memoryview) -> bool:
        nonlocal received
        received += len(data)
        seen.append(turns)
        if received >= size:
            tasks.cancel_scope.cancel()
        return False

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await anyio.sleep(0)
            turns += 1

    async with bounded(), anyio.create_task_group() as tasks:
        tasks.start_soon(count_turns)
        await pair.near.receive_into(take)
    assert max(seen.count(turn) for turn in seen) <= 3


TLS_RECORD_BYTES = 16 * 1024
"""What comes on top with TLS, if a piece ends a record that an earlier one has begun."""


@pytest.mark.parametrize("is_large", [False, True])
async def test_more_is_received_at_once_in_a_large_message(
    pair: Pair, version: ssl.TLSVersion | None, *, is_large: bool
) -> None:
    pair.far.setblocking(False)
    size = pair.far.send(bytes(1_000_000))
    assert size > 4 * LARGE_RECEIVE_BYTES // 2
    sizes: list[int] = []

    def take(data: memoryview) -> bool:
        sizes.append(len(data))
        if sum(sizes) >= size:
            tasks.cancel_scope.cancel()
        return is_large

    async with bounded(), anyio.create_task_group() as tasks:
        await pair.near.receive_into(take)
    surplus = 0 if version is None else TLS_RECORD_BYTES
    assert max(sizes[:2]) <= RECEIVE_BYTES + surplus
    expected = LARGE_RECEIVE_BYTES if is_large else RECEIVE_BYTES
    assert expected - surplus <= max(sizes) <= expected + surplus


async def test_a_reset_is_told(pair: Pair) -> None:
    received: list[bytes] = []
    pair.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    pair.far.close()
    async with bounded():
        end = await receive_until_end(pair.near, received)
        assert isinstance(end, anyio.BrokenResourceError)
        assert isinstance(end.__cause__, ConnectionResetError)
        with pytest.raises(anyio.BrokenResourceError):
            await pair.near.send(b"x")
        assert pair.near.send_nowait(b"x") == 0


async def test_what_the_receiver_raises_ends_it_and_is_raised(pair: Pair) -> None:
    class RefusedError(Exception):
        pass

    taken: list[bytes] = []

    def take(data: memoryview) -> bool:
        taken.append(bytes(data))
        if data == b"bad":
            raise RefusedError
        return False

    async with bounded(), anyio.create_task_group() as tasks:

        async def send() -> None:
            while not taken:
                await anyio.sleep(0)
            pair.far.sendall(b"bad")

        tasks.start_soon(send)
        with pytest.raises(RefusedError):
            await pair.near.receive_into(take)
    assert taken == [b"and what came with it;", b"bad"]


async def test_nothing_is_taken_after_the_receiver_has_raised(pair: Pair) -> None:
    """Also where more was there than fits into the buffer."""
    pair.far.setblocking(False)
    assert pair.far.send(bytes(1_000_000)) > 4 * RECEIVE_BYTES
    taken: list[int] = []

    def take(data: memoryview) -> bool:
        taken.append(len(data))
        if len(data) >= RECEIVE_BYTES // 2:
            raise LookupError
        return False

    async with bounded():
        with pytest.raises(LookupError):
            await pair.near.receive_into(take)
        before = len(taken)
        for _ in range(10):
            await anyio.sleep(0)
        assert len(taken) == before


async def test_it_is_closed_while_a_sender_waits(pair: Pair) -> None:
    while pair.near.send_nowait(bytes(1_000_000)) == 1_000_000:
        pass

    async def send() -> None:
        with pytest.raises((anyio.ClosedResourceError, anyio.BrokenResourceError)):
            await pair.near.send(PLENTY)

    async with bounded(), anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        await anyio.wait_all_tasks_blocked()
        await pair.near.aclose()


async def test_a_socket_that_is_said_to_be_readable_and_is_not(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux does so where it then drops a packet that is damaged."""
    wait_readable = trio.lowlevel.wait_readable
    waits = 0

    async def wait(sock: socket.socket) -> None:
        nonlocal waits
        waits += 1
        if waits > 3:
            await wait_readable(sock)
        else:
            await trio.lowlevel.checkpoint()

    monkeypatch.setattr(trio.lowlevel, "wait_readable", wait)
    received: list[bytes] = []
    async with bounded(), anyio.create_task_group() as tasks:

        async def send() -> None:
            while waits <= 3 and is_trio():
                await anyio.sleep(0)
            pair.far.sendall(b"more")
            pair.far.shutdown(socket.SHUT_WR)

        tasks.start_soon(send)
        assert isinstance(await receive_until_end(pair.near, received), anyio.EndOfStream)
    assert b"".join(received) == b"and what came with it;more"


async def test_it_can_be_closed_while_it_is_read(pair: Pair) -> None:
    ends: list[Exception] = []

    async def read() -> None:
        ends.append(await receive_until_end(pair.near, []))

    async with bounded(), anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        await pair.near.aclose()
    assert isinstance(ends[0], anyio.ClosedResourceError)


async def test_nothing_is_taken_after_a_cancellation(pair: Pair) -> None:
    received: list[bytes] = []
    async with bounded(), anyio.create_task_group() as tasks:
        tasks.start_soon(receive_until_end, pair.near, received)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    pair.far.sendall(b"late")
    await anyio.wait_all_tasks_blocked()
    assert b"".join(received) == b"and what came with it;"


async def test_a_receiver_that_takes_nothing_has_senders_wait_and_gets_all(pair: Pair) -> None:
    sent = bytearray()
    while (count := pair.near.send_nowait(bytes(1_000_000))) == 1_000_000:
        sent += bytes(count)
    rest = bytes(1_000_000 - count) + b"x" * 10_000_000
    sent += bytes(count) + rest
    received = bytearray()
    is_done = False

    async def send() -> None:
        nonlocal is_done
        await pair.near.send(rest)
        is_done = True

    def receive() -> None:
        while len(received) < len(sent):
            received.extend(pair.far.recv(1_000_000))

    async with bounded(), anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        await anyio.wait_all_tasks_blocked()
        assert not is_done
        await anyio.to_thread.run_sync(receive)
    assert received == sent


async def test_a_sender_that_waits_hears_that_the_receiver_has_gone(pair: Pair) -> None:
    while pair.near.send_nowait(bytes(1_000_000)) == 1_000_000:
        pass
    async with bounded():
        async with anyio.create_task_group() as tasks:

            async def send() -> None:
                with pytest.raises(anyio.BrokenResourceError):
                    while True:  # the operating system may have room for more by now
                        await pair.near.send(bytes(1_000_000))

            tasks.start_soon(receive_until_end, pair.near, [])
            tasks.start_soon(send)
            await anyio.wait_all_tasks_blocked()
            pair.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            pair.far.close()
