"""The servers that other tests rely on: what they take, what they refuse, and what they do when they are told to."""

from __future__ import annotations

import ssl
import time
from pathlib import Path

import anyio
import nats
import pytest

from natsery.testing import ServerProcessError, _nats_server, _server_process, open_server
from natsery.testing._reserved_ports import port_of, reserve_port

from .certificates import Certificates
from .operator_mode import USER, Account, Key, Operator, nkey_config
from .raw_client import raw_client
from .server import NatsServer, cluster

REFUSED = "-ERR 'Authorization Violation'"


def test_limits_of_the_configuration() -> None:
    config = 'max_payload: 1000\nmax_control_line: 600\nmax_subscriptions: 1\nping_interval: "50ms"'
    with NatsServer(config) as server:
        with raw_client(server.port) as client:
            assert client.info["max_payload"] == 1000
            assert client.log_in() in ("PONG", "PING")  # a PING of the server's own may come first
            client.send("SUB a 1\r\nSUB b 2\r\n")
            assert client.read_until("-ERR") == "-ERR 'maximum subscriptions exceeded'"
        with raw_client(server.port) as client:
            client.log_in()
            assert client.read_until("PING") == "PING"
            client.send(f"PUB {'a' * 700} 0\r\n\r\n")
            assert client.read_until("-ERR") == "-ERR 'maximum control line exceeded'"


def test_password() -> None:
    with NatsServer("authorization { user: u, password: right }") as server:
        with raw_client(server.port) as client:
            assert client.log_in(user="u", **{"pass": "right"}) == "PONG"
        with raw_client(server.port) as client:
            assert client.log_in(user="u", **{"pass": "wrong"}) == REFUSED


def test_nkey() -> None:
    key = Key(USER)
    with NatsServer(nkey_config(key)) as server:
        with raw_client(server.port) as client:
            assert client.log_in_as(key) == "PONG"
        with raw_client(server.port) as client:
            assert client.log_in_as(Key(USER)) == REFUSED


def test_operator_mode() -> None:
    operator = Operator()
    with NatsServer(operator.server_config()) as server:

        def answer(account: Account, expires: float | None = None) -> str:
            with raw_client(server.port) as client:
                return client.log_in_as(account.user(expires=expires))

        assert answer(operator.account) == "PONG"
        assert answer(operator.account, time.time() + 60) == "PONG"
        assert answer(operator.account, time.time() - 60) == REFUSED
        assert answer(Account("strangers")) == REFUSED

        with raw_client(server.port) as client:
            client.log_in_as(operator.account.user(publish={"allow": ["a.>"]}, subscribe={"deny": ["b"]}))
            client.send("PUB b 0\r\n\r\nSUB b 1\r\nPUB a.b 0\r\n\r\nPING\r\n")
            assert client.read_until("-ERR") == "-ERR 'Permissions Violation for Publish to \"b\"'"
            assert client.read_until("-ERR") == "-ERR 'Permissions Violation for Subscription to \"b\"'"
            assert client.read_line() == "PONG"

        with raw_client(server.port) as client:
            assert client.log_in_as(operator.account.user(expires=time.time() + 0.5)) == "PONG"
            assert client.read_until("-ERR") == "-ERR 'User Authentication Expired'"
            assert client.read_line() == ""


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.anyio
async def test_credentials_file(tmp_path: Path) -> None:
    operator = Operator()
    with NatsServer(operator.server_config()) as server:
        path = operator.account.user().write_credentials(tmp_path / "user.creds")
        client = await nats.connect(server.url, user_credentials=str(path))
        assert client.is_connected
        await client.close()


@pytest.mark.parametrize("first", [False, True], ids=["upgraded", "handshake-first"])
def test_tls(certificates: Certificates, first: bool) -> None:
    options = f"verify: true, handshake_first: {str(first).lower()}"
    with NatsServer(certificates.server_config(options=options)) as server:
        context = certificates.client_context(certificates.client)
        with raw_client(server.port, tls=context, handshake_first=first) as client:
            assert client.info["tls_required"]
            assert client.log_in() == "PONG"
        for refused in (None, certificates.untrusted):
            with pytest.raises(ssl.SSLError, match=r"certificate|unknown ca"):
                with raw_client(server.port, tls=certificates.client_context(refused), handshake_first=first) as client:
                    client.log_in()


@pytest.mark.parametrize("kind", ["untrusted", "misnamed", "expired"])
def test_bad_server_certificates(certificates: Certificates, kind: str) -> None:
    with NatsServer(certificates.server_config(getattr(certificates, kind))) as server:
        with pytest.raises(ssl.SSLCertVerificationError):
            with raw_client(server.port, tls=certificates.client_context()):
                pass


def test_cluster_and_lame_duck() -> None:
    with cluster('lame_duck_grace_period: "10ms"') as (one, other), raw_client(one.port) as client:
        client.log_in()
        assert set(client.info["connect_urls"]) == {f"127.0.0.1:{one.port}", f"127.0.0.1:{other.port}"}
        one.lame_duck()
        while "ldm" not in client.info:
            client.read_until("INFO ")
        assert client.info["connect_urls"] == [f"127.0.0.1:{other.port}"]
        one.wait_ended()


def test_frozen_killed_restarted_reloaded() -> None:
    with NatsServer() as server:
        with raw_client(server.port) as client:
            server.freeze()
            client.send("CONNECT {}\r\nPING\r\n")
            server.thaw()
            client.read_until("PONG")
            server.restart("max_payload: 1000")
            assert client.read_line() == ""
        with raw_client(server.port) as client:
            assert client.info["max_payload"] == 1000
        server.reload("max_payload: 500")
        with raw_client(server.port) as client:
            assert client.info["max_payload"] == 500


def test_a_port_is_reserved_while_its_server_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another test's server could take the port of one that was killed and came back."""
    with NatsServer() as server:
        server.kill()
        drawn = [*range(31_000, 31_999), server.port]
        monkeypatch.setattr("random.randrange", lambda *_: drawn.pop())
        with reserve_port() as reservation:
            assert port_of(reservation) != server.port
        server.start()


def test_a_server_that_cannot_start_says_why() -> None:
    with pytest.raises(ServerProcessError, match="nonsense"):
        with NatsServer("nonsense: true"):
            pass


def test_a_condition_that_never_holds_says_what_did_not_happen(monkeypatch: pytest.MonkeyPatch) -> None:
    def holds_later() -> bool:
        if not tries:
            tries.append("not there yet")
            raise ConnectionRefusedError
        return True

    tries: list[str] = []
    with NatsServer() as server:
        server.wait_until(holds_later, "never")
        assert tries == ["not there yet"]
        with monkeypatch.context() as patch:
            patch.setattr(_nats_server, "SECONDS", 0.0)
            with pytest.raises(ServerProcessError, match=r"(?s)^no client has come:\n.*Server is ready"):
                server.wait_until(lambda: False, "no client has come")
            with pytest.raises(ServerProcessError, match=r"(?s)^nats-server has not ended:\n.*Server is ready"):
                server.wait_ended()
        assert server.monitor("healthz")["status"] == "ok"


def test_a_server_that_does_not_run_says_so() -> None:
    """Waiting for what it will never do would take ten seconds, and hide why."""
    with NatsServer() as server:
        assert server.process is not None
        server.process.kill()
        server.process.wait()
        with pytest.raises(ServerProcessError, match=r"(?s)^nats-server has ended:\n.*Server is ready"):
            server.wait_until(lambda: True, "never")
        server.wait_ended()
        server.wait_ended()
        for command in (server.freeze, server.thaw, server.lame_duck):
            with pytest.raises(ServerProcessError, match=r"^nats-server does not run$"):
                command()


def test_a_server_that_takes_too_long_to_start_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "nats-server"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setattr(_server_process, "find_program", lambda: str(program))
    monkeypatch.setattr(_server_process, "START_SECONDS", 0.0)
    with pytest.raises(ServerProcessError, match=r"^nats-server did not start: it wrote no log$"):
        with NatsServer():
            pytest.fail("it started")

    async def main() -> None:
        async with open_server():
            pytest.fail("it started")

    with pytest.raises(ServerProcessError, match=r"^nats-server did not start: it wrote no log$"):
        anyio.run(main)


def test_a_server_is_frozen_when_the_call_returns() -> None:
    """Else a client can still connect to it, and then waits for what never comes."""
    with NatsServer() as server:
        assert server.process is not None
        status = Path(f"/proc/{server.process.pid}/status")
        for _ in range(100):
            server.freeze()
            server.freeze()
            if status.exists():  # not on every system
                assert "State:\tT" in status.read_text()
            server.thaw()
        assert server.monitor("healthz")["status"] == "ok"
