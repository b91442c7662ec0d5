"""TLS on a stream whose every byte the test decides: records in pieces, a network that takes little, and every end."""

from __future__ import annotations

import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import cast

import anyio
import pytest
from anyio.streams.tls import TLSStream

from natsery._backends._direct_stream import DirectStream
from natsery._backends._tls_stream import (
    ENCRYPT_BYTES,
    MAX_UNSENT_ANSWERS,
    RECORD_BYTES,
    TlsState,
    TlsStream,
    state_of,
)
from natsery._core import HeldAnswers
from natsery._native._connection_statistics import Counters
from natsery._native._handshake import direct_stream
from natsery._native._write_buffer import WriteBuffer

from ..bounds import bounded
from ..certificates import Certificates
from .direct_streams import VERSIONS, receive_until_end, shake_hands

pytestmark = pytest.mark.anyio

PLENTY = 1_000_000_000
BIG = bytes(range(256)) * 2048  # 512 KiB


class Wire(DirectStream):
    """What is below the stream under test.

    Attributes:
        room: so many bytes are accepted.
        sent: the bytes that were accepted.
        waiting: how many bytes ``send`` has waited with.
    """

    def __init__(self) -> None:
        self.room = PLENTY
        self.sent = bytearray()
        self.waiting = 0
        self._chunks: list[bytes | Exception] = []
        self._news = anyio.Event()

    def feed(self, *chunks: bytes | Exception) -> None:
        """Have these received; an error ends it."""
        self._chunks.extend(chunks)
        self._news.set()

    def make_room(self, room: int = PLENTY) -> None:
        self.room = room
        self._news.set()

    async def receive_into(self, take: Callable[[bytes], None]) -> None:
        while True:
            while self._chunks:
                chunk = self._chunks.pop(0)
                if isinstance(chunk, Exception):
                    raise chunk
                take(chunk)
            await self._wait_for_news()

    async def send(self, item: bytes) -> None:
        while item := item[self.send_nowait(item) :]:
            self.waiting = len(item)
            await self._wait_for_news()

    def send_nowait(self, item: bytes) -> int:
        accepted = item[: self.room]
        self.room -= len(accepted)
        self.sent += accepted
        return len(accepted)

    async def _wait_for_news(self) -> None:
        if self._news.is_set():
            self._news = anyio.Event()
        await self._news.wait()

    async def aclose(self) -> None:
        self.feed(anyio.ClosedResourceError())


class Peer:
    """The other side, after the handshake.

    Attributes:
        stream: the stream under test.
        wire: what is below it.
        state: its state.
    """

    def __init__(self, certificates: Certificates, version: ssl.TLSVersion) -> None:
        context = certificates.client_context()
        context.minimum_version = context.maximum_version = version
        self._incoming, self._outgoing, ours, theirs = (ssl.MemoryBIO() for _ in range(4))
        client = context.wrap_bio(ours, theirs, server_hostname="localhost")
        self._server = certificates.server_context().wrap_bio(self._incoming, self._outgoing, server_side=True)
        is_done = False
        while not is_done:
            ours.write(self._outgoing.read())
            with suppress(ssl.SSLWantReadError):
                client.do_handshake()
                is_done = True
            self._incoming.write(theirs.read())
            with suppress(ssl.SSLWantReadError):
                self._server.do_handshake()
        # With TLS 1.3, session tickets are left in there, and come before the first record.
        self.state = TlsState(client, ours, theirs)
        self.wire = Wire()
        self.stream = TlsStream(self.wire, self.state)

    def encrypt(self, *items: bytes) -> bytes:
        """These bytes, a record for each."""
        for item in items:
            self._server.write(item)
        return self._outgoing.read()

    def close_notify(self) -> bytes:
        with suppress(ssl.SSLWantReadError):
            self._server.unwrap()
        return self._outgoing.read()

    def refuse(self) -> bytes:
        """The alert with which the peer ends it."""
        self._incoming.write(b"\x17\x03\x03\x00\x20" + bytes(32))
        with suppress(ssl.SSLError):
            self._server.read()
        return self._outgoing.read()

    def received(self) -> bytes:
        """All that the stream has sent since the last call."""
        self._incoming.write(self.wire.sent)
        self.wire.sent.clear()
        data = b""
        with suppress(ssl.SSLWantReadError):
            while chunk := self._server.read(1_000_000):
                data += chunk
        return data


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> ssl.TLSVersion:
    return VERSIONS[request.param]


@pytest.fixture
async def peer(certificates: Certificates, version: ssl.TLSVersion) -> Peer:
    return Peer(certificates, version)


async def receive(peer: Peer, *chunks: bytes | Exception) -> tuple[bytes, Exception]:
    """What the stream makes of these chunks, and the end of it."""
    received: list[bytes] = []
    peer.wire.feed(*chunks, anyio.EndOfStream())
    end = await receive_until_end(peer.stream, received)
    return b"".join(received), end


# Receiving


async def test_records_that_are_cut_anywhere_come_whole(peer: Peer) -> None:
    chunks, expected = [peer.encrypt(b"first", b"second")], b"firstsecond"
    for cut in range(1, len(chunks[0])):
        data = peer.encrypt(b"first", b"second")
        chunks += [data[:cut], data[cut:]]
        expected += b"firstsecond"
    async with bounded():
        received, end = await receive(peer, *chunks)
    assert received == expected
    assert isinstance(end, anyio.EndOfStream)


async def test_single_bytes_become_records(peer: Peer) -> None:
    async with bounded():
        received, _ = await receive(peer, *[bytes([each]) for each in peer.encrypt(b"first", b"second")])
    assert received == b"firstsecond"


async def test_records_that_come_together_are_handed_on_together(peer: Peer) -> None:
    received: list[bytes] = []
    peer.wire.feed(peer.encrypt(*[b"x"] * 2000), peer.encrypt(b"next"), anyio.EndOfStream())
    async with bounded():
        await receive_until_end(peer.stream, received)
    assert received == [b"x" * 2000, b"next"]


async def test_what_came_with_the_handshake_comes_first(peer: Peer) -> None:
    data = peer.encrypt(b"first", b"second")
    peer.state.incoming.write(data[:-1])
    async with bounded():
        received, _ = await receive(peer, data[-1:] + peer.encrypt(b"third"))
    assert received == b"firstsecondthird"


@pytest.mark.parametrize("size", [RECORD_BYTES - 1, RECORD_BYTES, RECORD_BYTES + 1, len(BIG)])
async def test_big_pieces_come_whole(peer: Peer, size: int) -> None:
    data = peer.encrypt(BIG[:size])
    async with bounded():
        received, _ = await receive(peer, *[data[at : at + 65_536] for at in range(0, len(data), 65_536)])
    assert received == BIG[:size]


# The ends


async def test_what_came_before_the_close_notify_is_handed_on(peer: Peer) -> None:
    async with bounded():
        received, end = await receive(peer, peer.encrypt(b"last") + peer.close_notify(), anyio.BrokenResourceError())
    assert received == b"last"
    assert isinstance(end, anyio.EndOfStream)


async def test_a_record_that_is_cut_off_by_the_end_is_dropped(peer: Peer) -> None:
    async with bounded():
        received, end = await receive(peer, peer.encrypt(b"last"), peer.encrypt(b"cut off")[:-1])
    assert received == b"last"
    assert isinstance(end, anyio.EndOfStream)


async def test_a_record_that_somebody_has_changed_breaks_it(peer: Peer) -> None:
    good, changed = peer.encrypt(b"good"), bytearray(peer.encrypt(b"changed"))
    changed[-1] ^= 1
    async with bounded():
        received, end = await receive(peer, good + bytes(changed))
        assert received == b"good"
        assert isinstance(end, anyio.BrokenResourceError)
        assert isinstance(end.__cause__, ssl.SSLError)
        assert end.__cause__.reason == "DECRYPTION_FAILED_OR_BAD_RECORD_MAC"
        with pytest.raises(anyio.BrokenResourceError) as caught:
            await peer.stream.send(b"x")
        assert caught.value.__cause__ is end.__cause__
        assert peer.stream.send_nowait(b"x") == 0
        assert not peer.wire.sent


async def test_an_alert_comes_after_what_was_sent_before_it(peer: Peer) -> None:
    async with bounded():
        received, end = await receive(peer, peer.encrypt(b"-ERR 'no'") + peer.refuse())
    assert received == b"-ERR 'no'"
    assert isinstance(end, anyio.BrokenResourceError)
    assert isinstance(end.__cause__, ssl.SSLError)
    assert end.__cause__.reason.endswith("ALERT_BAD_RECORD_MAC")


# Sending


async def test_what_is_sent_arrives(peer: Peer) -> None:
    assert peer.stream.send_nowait(b"first") == 5
    await peer.stream.send(b"second")
    await peer.stream.send(b"")
    assert peer.received() == b"firstsecond"


async def test_a_big_piece_is_sent_whole(peer: Peer) -> None:
    await peer.stream.send(BIG)
    assert peer.received() == BIG
    assert peer.stream.send_nowait(BIG) == len(BIG)
    assert peer.received() == BIG


async def test_a_network_that_takes_a_part_gets_the_rest_first_and_once(peer: Peer) -> None:
    """Whatever part it takes."""
    peer.stream.send_nowait(b"PUB -1 0")
    size = len(peer.wire.sent)
    for room in range(size):
        peer.wire.make_room(room)
        item = b"PUB %2d 0" % room
        sent = peer.stream.send_nowait(item)
        assert sent < len(item)
        peer.wire.make_room()
        await peer.stream.send(item[sent:])
    assert peer.received() == b"PUB -1 0" + b"".join(b"PUB %2d 0" % room for room in range(size))


async def test_nothing_more_is_encrypted_while_something_waits(peer: Peer) -> None:
    peer.wire.make_room(ENCRYPT_BYTES + 10_000)
    sent = peer.stream.send_nowait(BIG)
    assert sent == ENCRYPT_BYTES
    waiting = peer.stream._unsent
    assert len(waiting) < ENCRYPT_BYTES
    peer.wire.make_room()
    assert peer.stream.send_nowait(BIG[sent:]) == 0
    assert peer.stream._unsent is waiting
    await peer.stream.send(BIG[sent:])
    assert peer.received() == BIG


async def test_a_push_that_gets_out_in_part_is_finished_by_the_writer_task(peer: Peer) -> None:
    """Nothing else has to be sent for that."""
    write_buffer = WriteBuffer(Counters(), HeldAnswers())
    write_buffer.open([], peer.stream.send_nowait)

    async def write() -> None:
        while True:
            await write_buffer.wait_for_frames()
            await peer.stream.send(write_buffer.take())
            write_buffer.sent()

    async with bounded(), anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        await anyio.wait_all_tasks_blocked()
        peer.wire.make_room(10)
        for _ in range(3):
            write_buffer.add(b"PUB a 0\r\n\r\n")
            write_buffer.push()
        await anyio.wait_all_tasks_blocked()
        assert len(peer.wire.sent) == 10
        peer.wire.make_room()
        await anyio.wait_all_tasks_blocked()
        assert peer.received() == b"PUB a 0\r\n\r\n" * 3
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("room", [0, 10, 100_000])
async def test_after_a_send_that_was_cancelled_nothing_can_be_sent(peer: Peer, room: int) -> None:
    """The peer could decrypt nothing after a gap."""
    peer.wire.make_room(room)
    async with bounded(), anyio.create_task_group() as tasks:
        tasks.start_soon(peer.stream.send, BIG)
        await anyio.wait_all_tasks_blocked()
        assert 0 < peer.wire.waiting < ENCRYPT_BYTES + 1000
        tasks.cancel_scope.cancel()
    peer.wire.make_room()
    assert peer.stream.send_nowait(b"x") == 0
    with pytest.raises(anyio.BrokenResourceError):
        await peer.stream.send(b"x")
    assert len(peer.wire.sent) == room


async def test_nothing_is_sent_after_an_end(peer: Peer) -> None:
    with suppress(ssl.SSLWantReadError):
        peer.state.ssl_object.unwrap()
    assert peer.stream.send_nowait(b"x") == 0
    with pytest.raises(anyio.BrokenResourceError) as caught:
        await peer.stream.send(b"x")
    assert isinstance(caught.value.__cause__, ssl.SSLError)
    assert caught.value.__cause__.reason == "PROTOCOL_IS_SHUTDOWN"


# What TLS itself has to say


async def test_answers_of_tls_are_sent_before_anything_else(peer: Peer) -> None:
    calls: list[int] = []
    peer.stream.on_unsent = lambda: calls.append(peer.state.outgoing.pending)
    peer.state.outgoing.write(b"answer")
    async with bounded():
        await receive(peer, peer.encrypt(b"x"))
        assert calls[-1:] == [6]
        await peer.stream.send(b"")
        assert peer.wire.sent == b"answer"
        peer.state.outgoing.write(b"another")
        peer.stream.send_nowait(b"x")
        assert peer.wire.sent.startswith(b"answeranother")


async def test_answers_of_tls_do_not_get_into_the_middle_of_anything(peer: Peer) -> None:
    peer.stream.send_nowait(b"x")
    peer.wire.make_room(10)
    assert peer.stream.send_nowait(b"y") == 0
    peer.state.outgoing.write(b"answer")
    peer.wire.make_room()
    await peer.stream.send(b"y")
    assert peer.wire.sent.endswith(b"answer")
    del peer.wire.sent[-len(b"answer") :]
    assert peer.received() == b"xy"


async def test_a_peer_that_does_not_read_the_answers_fills_no_memory(peer: Peer) -> None:
    peer.state.outgoing.write(bytes(MAX_UNSENT_ANSWERS + 1))
    async with bounded():
        received, end = await receive(peer)
    assert isinstance(end, anyio.BrokenResourceError)
    assert str(end.__cause__) == "the peer does not read the answers to its handshakes"


class OpenSSL:
    """The ``openssl`` command as a server, which renews keys and shakes hands again when told to.

    Attributes:
        stream: the stream under test, after the handshake.
        wire: what is below it.
    """

    def __init__(self, certificates: Certificates, *options: str) -> None:
        files = ("-cert", str(certificates.server.chain), "-key", str(certificates.server.key))
        command = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-naccept", "1", *options, *files]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self._shown = b""
        self._wait_shown(rb"ACCEPT \S+:\d+\n")
        self._socket = socket.create_connection(("127.0.0.1", int(self._shown.split()[-1].rpartition(b":")[2])))
        self._socket.settimeout(10)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = certificates.client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._socket.sendall(outgoing.read())
                incoming.write(self._socket.recv(65_536))
        self.wire = Wire()
        self.wire.sent += outgoing.read()
        self.stream = TlsStream(self.wire, TlsState(client, incoming, outgoing))

    def _wait_shown(self, pattern: bytes) -> None:
        assert self._process.stdout is not None
        while not re.search(pattern, self._shown, re.DOTALL):
            chunk = self._process.stdout.read(65_536)
            assert chunk, self._shown
            self._shown += chunk

    def say(self, text: bytes) -> None:
        """Send this; but ``K`` is to renew the keys and to ask for the same, and ``r`` to shake hands again."""
        assert self._process.stdin is not None
        self._process.stdin.write(text + b"\n")

    async def hear(self, text: bytes) -> None:
        """Receive what is on the wire, until it contains this."""
        self._socket.sendall(self.wire.sent)
        self.wire.sent.clear()
        await anyio.to_thread.run_sync(self._wait_shown, text, abandon_on_cancel=True)

    async def exchange(self) -> None:
        """Receive what is on the wire, and have the next piece of this server's received."""
        self._socket.sendall(self.wire.sent)
        self.wire.sent.clear()
        self.wire.feed(await anyio.to_thread.run_sync(self._socket.recv, 65_536, abandon_on_cancel=True))
        await anyio.wait_all_tasks_blocked()

    def end(self) -> None:
        self._process.kill()
        self._socket.close()
        with self._process:
            pass


@contextmanager
def openssl(certificates: Certificates, *options: str) -> Iterator[OpenSSL]:
    server = OpenSSL(certificates, *options)
    try:
        yield server
    finally:
        server.end()


needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl command")


@needs_openssl
async def test_keys_that_are_renewed(certificates: Certificates) -> None:
    received = bytearray()
    with openssl(certificates, "-tls1_3") as server:
        async with bounded(), anyio.create_task_group() as tasks:
            tasks.start_soon(server.stream.receive_into, received.extend)
            await server.hear(b"CIPHER is")
            sizes: list[int] = []
            for number in range(3):
                server.say(b"down %d" % number)
                while not received.endswith(b"down %d\n" % number):
                    await server.exchange()
                await server.stream.send(b"up %d\n" % number)
                sizes.append(len(server.wire.sent))
                await server.hear(b"up %d\n" % number)
                server.say(b"K")
                await server.exchange()
            assert sizes[2] == sizes[1] > sizes[0]  # the keys of this side are renewed as well
            tasks.cancel_scope.cancel()


@needs_openssl
async def test_another_handshake(certificates: Certificates) -> None:
    """TLS 1.2 renews keys so, and nothing can be encrypted meanwhile."""
    received = bytearray()
    with openssl(certificates, "-tls1_2", "-no_ticket", "-no_cache") as server:
        async with bounded(), anyio.create_task_group() as tasks:
            tasks.start_soon(server.stream.receive_into, received.extend)
            await server.hear(b"CIPHER is")
            for number in range(3):
                asked = anyio.Event()
                is_sent = anyio.Event()
                server.stream.on_unsent = asked.set

                async def send(item: bytes, is_sent: anyio.Event = is_sent) -> None:
                    await server.stream.send(item)
                    is_sent.set()

                server.say(b"r")
                while not asked.is_set():
                    await server.exchange()
                assert server.stream.send_nowait(b"x") == 0
                tasks.start_soon(send, b"up %d\n" % number)
                await anyio.wait_all_tasks_blocked()
                assert not is_sent.is_set()
                while not is_sent.is_set():
                    await server.exchange()
                await server.hear(b"up %d\n" % number)
                server.say(b"down %d" % number)
                while not received.endswith(b"down %d\n" % number):
                    await server.exchange()
            tasks.cancel_scope.cancel()


@needs_openssl
async def test_a_sender_that_waits_for_another_handshake_hears_of_the_end(certificates: Certificates) -> None:
    with openssl(certificates, "-tls1_2") as server:
        async with bounded(), anyio.create_task_group() as tasks:

            async def send() -> None:
                with pytest.raises(anyio.BrokenResourceError):
                    await server.stream.send(b"x")

            asked = anyio.Event()
            server.stream.on_unsent = asked.set
            tasks.start_soon(receive_until_end, server.stream, [])
            await server.hear(b"CIPHER is")
            server.say(b"r")
            while not asked.is_set():
                await server.exchange()
            tasks.start_soon(send)
            await anyio.wait_all_tasks_blocked()
            server.wire.feed(anyio.EndOfStream())


# anyio's stream


KNOWN = {"_ssl_object": object(), "_read_bio": ssl.MemoryBIO(), "_write_bio": ssl.MemoryBIO()}


@pytest.mark.parametrize("name", KNOWN)
def test_a_stream_of_anyio_that_is_not_as_known_has_no_state(name: str) -> None:
    assert state_of(cast("TLSStream", SimpleNamespace(**KNOWN))) == tuple(KNOWN.values())
    assert state_of(cast("TLSStream", SimpleNamespace(**{**KNOWN, name: None}))) is None


async def test_a_stream_of_anyio_that_is_not_as_known_goes_on(
    version: ssl.TLSVersion, certificates: Certificates
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = await anyio.connect_tcp("127.0.0.1", listener.getsockname()[1])
        far, _ = listener.accept()
        encrypted, far = await shake_hands(near, far, version, certificates)
        with far:
            state = encrypted.__dict__.pop("_read_bio")
            async with bounded(), encrypted:
                assert direct_stream(encrypted) is encrypted
                encrypted._read_bio = state
                far.sendall(b"down")
                assert await encrypted.receive() == b"down"
                await encrypted.send(b"up")
                assert far.recv(10) == b"up"
