"""What an unauthenticated INFO may say, and what a port that echoes may show."""

from __future__ import annotations

import logging

import pytest

import natsery

from ..certificates import Certificates
from ..server import NatsServer, cluster
from .scripted import Peer, scripted_server
from .tools import AT_ONCE, QUICK, Events, bounded

pytestmark = pytest.mark.anyio

PASSWORD = 'open "sesame" 4711'


@pytest.mark.parametrize("inside", [[], ["friend.example.com:4222"]])
async def test_addresses_in_clear_are_not_learned_where_tls_follows(
    certificates: Certificates, inside: list[str]
) -> None:
    """Somebody on the way could add a server, and got the password after the next disconnect."""

    async def script(peer: Peer) -> None:
        await peer.send_info(tls_required=True, connect_urls=["attacker.example.com:4222"])
        await peer.start_tls(certificates)
        await peer.accept()
        await peer.send_info(connect_urls=inside)
        await peer.answer_pings()

    with bounded():
        async with scripted_server(script) as url:
            context = certificates.client_context()
            async with natsery.connect(url.replace("nats:", "tls:"), tls=context, user="u", password=PASSWORD) as nc:
                await nc.flush()
                assert [server.rpartition("/")[2] for server in nc.servers][1:] == inside


async def test_a_cluster_is_discovered_over_tls(certificates: Certificates) -> None:
    with cluster(certificates.server_config()) as (one, other), bounded():
        async with natsery.connect(one.tls_url, tls=certificates.client_context()) as nc:
            while len(nc.servers) < 2:
                await nc.flush()
            assert str(other.port) in nc.servers[1]


async def test_discovered_servers_can_be_ignored() -> None:
    with cluster() as (one, _), bounded():
        async with natsery.connect(one.url, ignore_discovered_servers=True) as nc:
            await nc.flush()
            assert len(nc.servers) == 1


@pytest.mark.parametrize(
    "credentials", [{"user": "u", "password": PASSWORD}, {"token": PASSWORD}], ids=["user", "token"]
)
@pytest.mark.parametrize("how", ["echo", "error", "message", "authorization", "INFO"])
async def test_a_port_that_echoes_shows_no_secret(
    credentials: dict[str, str], how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The beginning of what came back was in the error, with the password in it."""
    caplog.set_level(logging.DEBUG)

    async def script(peer: Peer) -> None:
        await peer.send_info()
        line = (await peer.line_of(b"CONNECT")) + b"\r\n"
        secret = PASSWORD.encode()
        if how == "echo":
            await peer.send(secret + b"\r\n")
        elif how == "INFO":
            await peer.send(b"INFO " + secret + b"\r\n")
        elif how == "error":
            await peer.send(b"-ERR '" + line.strip() + b"'\r\n")
        elif how == "authorization":
            await peer.send(b"-ERR 'Authorization Violation: " + secret + b"'\r\n")
        else:
            await peer.send(b"MSG a 1 %d\r\n%b\r\n" % (len(secret), secret))

    with bounded():
        async with scripted_server(script) as url:
            with pytest.raises((natsery.ConnectError, natsery.AuthorizationError)) as caught:
                async with natsery.connect(url, name="n", **credentials):
                    pass
    shown = str(caught.value) + repr(caught.value) + repr(getattr(caught.value, "failures", "")) + caplog.text
    for _, failure in getattr(caught.value, "failures", ()):
        shown += repr(failure) + repr(vars(failure)) + repr(failure.__context__)
    assert "sesame" not in shown


@pytest.mark.parametrize(
    "say",
    ["%b", "-ERR '%b'\r\n", "-ERR 'Authorization Violation %b'\r\n", "MSG %b 1\r\n", "INFO %b\r\n", 'INFO "%b"\r\n'],
    ids=["echo", "error", "authorization", "message", "INFO", "INFO's JSON"],
)
@pytest.mark.parametrize("token", [PASSWORD, "s3same-" * 40], ids=["short", "long"])
async def test_a_port_that_echoes_after_the_handshake_shows_no_secret(
    token: str, say: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Only the answer to CONNECT itself was searched for secrets."""
    caplog.set_level(logging.DEBUG)

    async def script(peer: Peer) -> None:
        await peer.send_info()
        line = (await peer.line_of(b"CONNECT")).partition(b'"auth_token":"')[2].partition(b'"}')[0]
        await peer.line_of(b"PING")
        await peer.send(b"PONG\r\n")
        await peer.send(say.encode() % line)

    shown = ""
    with bounded():
        async with scripted_server(script) as url:
            async with natsery.connect(url, token=token, reconnect=False) as nc:
                nc.add_listener(lambda event: seen.append(event.error))
                seen: list[Exception | None] = []
                await nc.wait_closed()
                with pytest.raises(natsery.ConnectionClosedError) as caught:
                    await nc.flush()
    for error in (*seen, caught.value):
        shown += "" if error is None else f"{error} {error!r} {vars(error)} {error.__cause__!r}"
    assert "same" not in shown + caplog.text
    assert shown


async def test_what_is_received_is_shown_where_it_holds_no_secret() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.send(b"HELLO\r\n")

    with bounded():
        async with scripted_server(script) as url, natsery.connect(url, token=PASSWORD, reconnect=False) as nc:
            await nc.wait_closed()
            with pytest.raises(natsery.ConnectionClosedError, match="received b'HELLO'"):
                await nc.flush()


async def test_headers_that_somebody_has_taken_away_before_tls(certificates: Certificates) -> None:
    """The server took this client for one that cannot read headers, and sent it messages without them."""
    clients = 0

    async def script(peer: Peer) -> None:
        nonlocal clients
        clients += 1
        await peer.send_info(tls_required=True, headers=clients > 2)
        await peer.start_tls(certificates)
        if clients == 2:
            await peer.greet()
        else:
            await peer.line_of(b"PING")
            await peer.send(b"PONG\r\n")
            await peer.send_info()
        await peer.answer_pings()

    with bounded():
        async with scripted_server(script) as url:
            context = certificates.client_context()
            async with natsery.connect(url.replace("nats:", "tls:"), tls=context, **QUICK) as nc:
                events = Events(nc)
                lost = await events.wait(natsery.EventKind.DISCONNECTED)
                assert "its first INFO said that it does not" in str(lost.error)
                await events.wait(natsery.EventKind.RECONNECTED)
                assert nc.server_info.headers


@pytest.mark.parametrize("password", ["echo", "Permissions", "sid 7", "Authorization"])
async def test_a_password_that_is_also_in_a_refusal_does_not_change_what_it_means(
    password: str,
) -> None:
    """With the password 'echo', nobody was told that 'echo.one' was refused: what the server said was changed before."""
    users = f"""authorization {{ users: [{{
        password: "{password}", user: u, permissions: {{ publish: {{ deny: "echo.>" }}, subscribe: {{ deny: "echo.>" }} }}
    }}] }}"""
    with NatsServer(users) as server, bounded():
        async with natsery.connect(server.url, user="u", password=password, **AT_ONCE) as nc:
            with pytest.raises(natsery.SubscriptionDeniedError):
                async with nc.subscribe("echo.one"):
                    pass
            with pytest.raises(natsery.PublishDeniedError):
                await nc.request("echo.one")
            server.reload(users.replace(password, "another", 1))
            await nc.wait_closed()
            with pytest.raises(natsery.ConnectionClosedError) as caught:
                await nc.flush()
            assert isinstance(caught.value.__cause__, natsery.AuthorizationError)


async def test_a_refused_subject_that_is_a_password_is_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.send(b"-ERR 'Permissions Violation for Publish to \"%b\"'\r\n" % PASSWORD.encode())
        await peer.answer_pings()

    with bounded():
        async with scripted_server(script) as url, natsery.connect(url, token=PASSWORD) as nc:
            error = (await Events(nc).wait(natsery.EventKind.ERROR)).error
            assert isinstance(error, natsery.PublishDeniedError)
            assert "sesame" not in f"{error} {error!r}{caplog.text}"


@pytest.mark.parametrize("max_payload", [2**63, 2**70, 10**4000])
async def test_a_max_payload_of_any_size_is_taken(max_payload: int) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet(max_payload=max_payload)
        await peer.line_of(b"PUB")
        await peer.answer_pings()

    with bounded():
        async with scripted_server(script) as url, natsery.connect(url, reconnect=False) as nc:
            await nc.publish("a", b"x")
            await nc.flush()
            assert nc.max_payload >= 2**31 - 1
