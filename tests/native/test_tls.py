"""How securely: TLS that is wanted or required, every way that it can fail, and messages that travel over it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from anyio.abc import ByteStream
from anyio.streams.tls import TLSStream

import natsery
from natsery import EventKind
from natsery._backends._tls_stream import TlsStream

from ..certificates import Certificates
from ..server import NatsServer
from .scripted import Peer, scripted_server
from .tools import QUICK, Events, bounded, connection_error, recording_server, stall_error

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("nothing_left")]

SECRET = "5ecret-of-mine"

MEGABYTE = 1024 * 1024


@pytest.fixture(scope="module")
def tls_server(certificates: Certificates) -> Iterator[NatsServer]:
    with NatsServer(certificates.server_config()) as server:
        yield server


@pytest.fixture(scope="module")
def tls_first_server(certificates: Certificates) -> Iterator[NatsServer]:
    with NatsServer(certificates.server_config(options="handshake_first: true")) as server:
        yield server


@pytest.fixture(scope="module", params=["upgraded", "handshake first"])
def verifying_server(certificates: Certificates, request: pytest.FixtureRequest) -> Iterator[tuple[NatsServer, bool]]:
    first = request.param == "handshake first"
    options = f"verify: true, handshake_first: {str(first).lower()}"
    with NatsServer(certificates.server_config(options=options)) as server:
        yield server, first


async def works(servers: str, **options: Any) -> None:
    """Connect, and have something go to the server and back."""
    with bounded():
        async with natsery.connect(servers, **options) as nc, nc.subscribe("there.and.back") as messages:
            assert nc.server_info.tls_required or nc.server_info.tls_available
            await nc.publish("there.and.back", b"x")
            assert (await messages.receive()).data == b"x"


async def insecure(servers: str, caplog: pytest.LogCaptureFixture, **options: Any) -> str:
    """The text of the SecureConnectionError with which the first connection fails, at once."""
    error = await connection_error(servers, caplog, hidden=(SECRET,), token=SECRET, retry_first_connect=True, **options)
    assert type(error) is natsery.SecureConnectionError, repr(error)
    return str(error)


# Where it works


@pytest.mark.parametrize("scheme", ["nats", "tls"])
async def test_a_context(tls_server: NatsServer, certificates: Certificates, scheme: str) -> None:
    await works(f"{scheme}://localhost:{tls_server.port}", tls=certificates.client_context())
    await works(f"{scheme}://127.0.0.1:{tls_server.port}", tls=certificates.client_context())


async def test_a_server_that_offers_tls_and_does_not_insist(certificates: Certificates) -> None:
    with NatsServer(certificates.server_config() + "allow_non_tls: true\n") as server:
        await works(server.url, tls=certificates.client_context())
        await works(server.url)


async def test_handshake_first(tls_first_server: NatsServer, certificates: Certificates) -> None:
    await works(tls_first_server.url, tls=certificates.client_context(), tls_first=True)
    await works(tls_first_server.tls_url, tls=certificates.client_context(), tls_first=True)


async def test_a_certificate_of_ones_own(verifying_server: tuple[NatsServer, bool], certificates: Certificates) -> None:
    server, first = verifying_server
    await works(server.url, tls=certificates.client_context(certificates.client), tls_first=first)


async def test_tls_hostname(certificates: Certificates) -> None:
    with NatsServer(certificates.server_config(certificates.misnamed)) as server:
        await works(server.url, tls=certificates.client_context(), tls_hostname="elsewhere.example.com")


async def test_system_authorities(
    tls_server: NatsServer, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the system's authorities made to be ours, TLS needs no context."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))
    await works(tls_server.url, tls=True)
    await works(tls_server.tls_url)
    await works(tls_server.url)


# Certificates that are not accepted


@pytest.mark.parametrize(
    ("scheme", "options"), [("nats", {"tls": True}), ("tls", {}), ("nats", {})], ids=["tls=True", "tls://", "required"]
)
async def test_an_authority_that_the_system_does_not_know(
    tls_server: NatsServer, scheme: str, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    url = f"{scheme}://127.0.0.1:{tls_server.port}"
    text = await insecure(url, caplog, **options)
    assert text == (
        f"TLS with {url} failed: its certificate is not accepted (unable to get local issuer certificate); "
        "name its authority in an ssl.SSLContext, or with --tls-ca"
    )


async def test_wrong_authority(certificates: Certificates, caplog: pytest.LogCaptureFixture) -> None:
    with NatsServer(certificates.server_config(certificates.untrusted)) as server:
        text = await insecure(server.url, caplog, tls=certificates.client_context())
    assert text.startswith(f"TLS with {server.url} failed: its certificate is not accepted (")


async def test_wrong_host_name(certificates: Certificates, caplog: pytest.LogCaptureFixture) -> None:
    with NatsServer(certificates.server_config(certificates.misnamed)) as server:
        for host, what in (("127.0.0.1", "IP address"), ("localhost", "Hostname")):
            url = f"nats://{host}:{server.port}"
            text = await insecure(url, caplog, tls=certificates.client_context())
            assert text == (
                f"TLS with {url} failed: its certificate is not accepted "
                f"({what} mismatch, certificate is not valid for '{host}')"
            )


async def test_wrong_tls_hostname(
    tls_server: NatsServer, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    text = await insecure(tls_server.url, caplog, tls=certificates.client_context(), tls_hostname="other.example.com")
    assert text.endswith("(Hostname mismatch, certificate is not valid for 'other.example.com')")


async def test_expired_certificate(certificates: Certificates, caplog: pytest.LogCaptureFixture) -> None:
    with NatsServer(certificates.server_config(certificates.expired)) as server:
        text = await insecure(server.url, caplog, tls=certificates.client_context())
    assert text == f"TLS with {server.url} failed: its certificate is not accepted (certificate has expired)"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_server_that_does_not_accept_the_clients_certificate(
    verifying_server: tuple[NatsServer, bool],
    certificates: Certificates,
    version: ssl.TLSVersion,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With TLS 1.3 that came after the handshake, as a ConnectError with the library's text."""
    server, first = verifying_server
    for certificate in (None, certificates.untrusted):
        context = certificates.client_context(certificate)
        context.minimum_version = context.maximum_version = version
        text = await insecure(server.url, caplog, tls=context, tls_first=first)
        assert text.startswith(f"TLS with {server.url} failed: the server refuses it with the alert '")
        assert text.endswith("'; it may want a certificate of this client, or another one")


# Servers that do not do TLS as it is wanted


PLAIN = b'INFO {"server_id":"x","max_payload":1048576,"nonce":"n"}\r\n'


@pytest.mark.parametrize(
    ("scheme", "options"), [("nats", {"tls": True}), ("tls", {}), ("nats", {"tls": True, "tls_hostname": "h"})]
)
async def test_a_server_without_tls_gets_nothing(
    scheme: str, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with bounded():
        async with recording_server(PLAIN) as server:
            url = f"{scheme}://127.0.0.1:{server.port}"
            text = await insecure(url, caplog, **options)
            await server.is_done.wait()
            assert (server.connections, server.received) == (1, b"")
    assert text == f"TLS is wanted and {url} does not offer it; nothing secret was sent"


async def test_tls_first_against_a_server_without_tls(caplog: pytest.LogCaptureFixture) -> None:
    with bounded():
        async with recording_server(PLAIN) as server:
            text = await insecure(server.url, caplog, tls_first=True)
            await server.is_done.wait()
            # A ClientHello and perhaps an alert, and no NATS.
            assert server.received[:2] == b"\x16\x03"
            assert b"CONNECT" not in server.received
    assert text == f"TLS with {server.url} failed: what it answers is not TLS"


async def test_tls_first_against_a_real_server_without_it(
    nats_server: NatsServer, tls_server: NatsServer, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    for server in (nats_server, tls_server):
        text = await insecure(server.url, caplog, tls=certificates.client_context(), tls_first=True)
        assert text == f"TLS with {server.url} failed: what it answers is not TLS"


@pytest.mark.parametrize(
    "more", [b"PING\r\n", b"MSG a 1 3\r\n", b'INFO {"tls_required":false}\r\n', b"+O", b"-ERR 'x'\r\n"]
)
async def test_a_server_that_sends_more_than_info_before_the_handshake(
    more: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody on the way could have put it there, to have it pass for something that came through TLS."""
    with bounded():
        async with recording_server(b'INFO {"tls_required":true}\r\n' + more) as server:
            text = await insecure(server.url, caplog, tls=True)
            await server.is_done.wait()
            assert server.received == b""
    assert text == f"{server.url} sent more than INFO before the TLS handshake; nothing secret was sent"


STALLS = [
    pytest.param(b"", {}, "INFO, which a server that begins with TLS (tls_first) does not send", id="no INFO"),
    pytest.param(b'INFO {"tls_required":true}\r\n', {}, "the TLS handshake", id="required"),
    pytest.param(b"", {"tls_first": True}, "the TLS handshake", id="first"),
    pytest.param(PLAIN, {}, "the answer to CONNECT", id="no TLS"),
]


@pytest.mark.parametrize(("say", "options", "waiting"), STALLS)
async def test_a_server_that_stalls(say: bytes, options: dict[str, Any], waiting: str) -> None:
    with bounded():
        async with recording_server(say) as server:
            error = await stall_error(server.url, waiting, **options)
            await server.is_done.wait()
    assert type(error) is natsery.ConnectError
    assert str(error).startswith(f"cannot connect to NATS ({server.url}: gave up after ")
    assert type(error.failures[0][1]) is TimeoutError


async def test_a_stall_after_the_tls_handshake(certificates: Certificates) -> None:
    context = certificates.server_context()

    async def script(stream: ByteStream) -> None:
        encrypted = await TLSStream.wrap(stream, server_side=True, ssl_context=context, standard_compatible=False)
        received.append(await encrypted.receive())

    received: list[bytes] = []
    with bounded():
        async with recording_server(b'INFO {"tls_required":true}\r\n', script) as server:
            options = {"tls": certificates.client_context(), "token": SECRET}
            await stall_error(server.url, "the answer to CONNECT", hidden=(SECRET,), **options)
            await server.is_done.wait()
    assert SECRET.encode() in received[-1]


async def test_credentials_that_do_not_come() -> None:
    with bounded():
        async with recording_server(PLAIN) as server:
            await stall_error(server.url, "the credentials", token=anyio.sleep_forever)


async def test_a_server_that_leaves_in_the_middle_of_the_handshake(caplog: pytest.LogCaptureFixture) -> None:
    async def script(stream: ByteStream) -> None:
        await stream.receive()
        await stream.aclose()

    with bounded():
        async with recording_server(b'INFO {"tls_required":true}\r\n', script) as server:
            error = await connection_error(server.url, caplog, hidden=(SECRET,), token=SECRET)
            assert type(error) is natsery.ConnectError
    assert f"{server.url}: the server ended the connection during the handshake" in str(error)


async def test_handshake_first_not_asked_for(tls_first_server: NatsServer, certificates: Certificates) -> None:
    """Server and client wait for each other; the text says what may be missing."""
    waiting = "INFO, which a server that begins with TLS (tls_first) does not send"
    await stall_error(tls_first_server.url, waiting, tls=certificates.client_context())


# Messages


async def echo(request: natsery.Request) -> bytes:
    return request.data


@pytest.mark.parametrize("first", [False, True], ids=["upgraded", "handshake first"])
async def test_a_service_over_tls(
    tls_server: NatsServer, tls_first_server: NatsServer, certificates: Certificates, first: bool
) -> None:
    server = tls_first_server if first else tls_server
    options = {"tls": certificates.client_context(), "tls_first": first}
    config = natsery.ServiceConfig("echo", "1.0.0", endpoints=[natsery.EndpointConfig("echo", echo)])
    with bounded():
        async with natsery.connect(server.url, **options) as nc, natsery.serve(nc, config):
            async with natsery.connect(server.url, **options) as client:
                assert (await client.request("echo", b"x")).data == b"x"
                big = bytes(range(256)) * (MEGABYTE // 256)
                assert (await client.request("echo", big)).data == big

                async def ask(number: int) -> None:
                    data = b"%d" % number * 20_000
                    assert (await client.request("echo", data)).data == data

                # Both ways at once, with more than socket buffers hold.
                async with anyio.create_task_group() as tasks:
                    for number in range(100):
                        tasks.start_soon(ask, number)


@pytest.mark.parametrize("first", [False, True], ids=["upgraded", "handshake first"])
async def test_reconnect_over_tls(certificates: Certificates, first: bool) -> None:
    context = certificates.client_context()
    with NatsServer(certificates.server_config(options=f"handshake_first: {str(first).lower()}")) as server, bounded():
        async with natsery.connect(server.url, tls=context, tls_first=first, **QUICK) as nc:
            async with nc.subscribe("a") as messages:
                events = Events(nc)
                server.restart()
                await events.wait(EventKind.RECONNECTED)
                await nc.publish("a", b"again")
                assert (await messages.receive()).data == b"again"


async def test_a_server_that_comes_back_without_tls_gets_nothing(certificates: Certificates) -> None:
    """Nor does the connection give up, for the server may come back with it once more."""
    tls = certificates.server_config()
    context = certificates.client_context()
    with NatsServer(tls) as server, bounded():
        async with natsery.connect(server.url, tls=context, token=SECRET, max_reconnect_rounds=2, **QUICK) as nc:
            events = Events(nc)
            server.restart("")
            await nc.wait_closed()
            text = f"cannot connect to NATS (TLS is wanted and {server.url} does not offer it; nothing secret was sent)"
            assert str(events.seen[-1].error).endswith(text)
            assert server.monitor("varz")["total_connections"] == 2
            assert server.monitor("connz?state=closed")["total"] == 2
        async with natsery.connect(server.url, token=SECRET):
            pass


async def greet_in_tls(peer: Peer, certificates: Certificates) -> None:
    await peer.send_info(tls_required=True)
    await peer.start_tls(certificates)
    await peer.accept()


async def test_a_broken_record_ends_the_network_connection(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(peer: Peer) -> None:
        below = peer._stream
        await greet_in_tls(peer, certificates)
        await below.send(b"\x17\x03\x03\x00\x20" + bytes(32))
        await peer.answer_pings()

    with bounded():
        async with scripted_server(script) as url:
            async with natsery.connect(url, tls=certificates.client_context(), **QUICK) as nc:
                events = Events(nc)
                lost = await events.wait(EventKind.DISCONNECTED)
                assert type(lost.error) is natsery.ConnectionLostError
                assert str(lost.error).startswith("the network failed ([SSL: ")
                nc._scope.cancel()
    assert "unexpectedly" not in caplog.text


async def test_what_tls_itself_has_to_say_is_sent_though_nothing_else_is(certificates: Certificates) -> None:
    asked = anyio.Event()

    async def script(peer: Peer) -> None:
        await greet_in_tls(peer, certificates)
        ready.set()
        await may_go_on.wait()
        await peer.send(b"+OK\r\n")
        await peer.line_of(b"PING")
        asked.set()
        await peer.answer_pings()

    ready, may_go_on = anyio.Event(), anyio.Event()
    with bounded():
        async with scripted_server(script) as url:
            async with natsery.connect(url, tls=certificates.client_context()) as nc:
                await ready.wait()
                assert nc._session is not None
                stream = nc._session.link.stream
                assert isinstance(stream, TlsStream)
                # In place of a handshake's message: something else that has been encrypted and was not given to be sent.
                stream._ssl_object.write(b"PING\r\n")
                await anyio.wait_all_tasks_blocked()
                assert not asked.is_set()
                may_go_on.set()
                await asked.wait()
                nc._scope.cancel()
