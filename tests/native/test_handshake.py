"""The handshake with servers that say more, less or something else than usual."""

from __future__ import annotations

import anyio
import pytest
from anyio.abc import ByteStream

import natsery

from ..bounds import bounded
from ..certificates import Certificates
from ..server import NatsServer
from .scripted import Peer, scripted_server
from .tools import connection_error, recording_server

pytestmark = pytest.mark.anyio


async def test_a_server_that_has_no_room_is_quoted() -> None:
    """It says so instead of INFO."""

    async def script(peer: Peer) -> None:
        await peer.send(b"-ERR 'Maximum Connections Exceeded'\r\n")

    async with scripted_server(script) as url:
        assert "Maximum Connections Exceeded" in str(await connection_error(url))


async def test_a_server_that_does_not_begin_with_info() -> None:
    async def script(peer: Peer) -> None:
        await peer.send(b"PING\r\n")

    async with scripted_server(script) as url:
        assert "a server must begin with INFO" in str(await connection_error(url))


async def test_a_server_that_pings_before_it_accepts_is_answered() -> None:
    async def script(peer: Peer) -> None:
        await peer.send_info()
        await peer.line_of(b"CONNECT")
        await peer.send(b"PING\r\n")
        await peer.line_of(b"PONG")
        await peer.send(b"PONG\r\n")
        await peer.answer_pings()

    async with bounded(), scripted_server(script) as url, natsery.connect(url) as nc:
        await nc.flush()


async def test_a_verbose_server_confirms_each_command(nats_server: NatsServer) -> None:
    async with bounded(), natsery.connect(nats_server.url, verbose=True) as nc:
        async with nc.subscribe("news") as messages:
            await nc.publish("news", b"x")
            assert (await messages.receive()).data == b"x"
        await nc.flush()


async def test_a_tls_handshake_that_ends_in_nonsense_says_what_tls_calls_it(certificates: Certificates) -> None:
    async def script(stream: ByteStream) -> None:
        await stream.receive()  # ClientHello
        await stream.send(b"\x16\x03\x03\x00\x04\x0b\x00\x00\x00")  # a Certificate before the ServerHello

    async with recording_server(script=script) as server:
        error = await connection_error(server.tls_url, tls=certificates.client_context(), tls_first=True)
    assert isinstance(error, natsery.SecureConnectionError)
    assert str(error) == f"TLS with {server.tls_url} failed: UNEXPECTED_MESSAGE"


async def test_ctrl_c_while_a_connection_is_opened_is_raised_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """anyio connects in a task group of its own."""
    interrupt = KeyboardInterrupt()

    async def connect_tcp(*_: object) -> None:
        raise BaseExceptionGroup("unhandled errors in a TaskGroup", [interrupt])

    monkeypatch.setattr(anyio, "connect_tcp", connect_tcp)
    async with bounded():
        with pytest.raises(KeyboardInterrupt) as caught:
            async with natsery.connect("nats://127.0.0.1:4222"):
                pytest.fail("it has connected")
    assert caught.value is interrupt
