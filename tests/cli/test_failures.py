"""What every command says, and how it ends, when the server is not as it should be: one line, and no traceback."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

import natsery
from natsery._cli._connection_options import _server_check
from natsery._cli._discovery import _list_commands, _query, _request_command
from natsery._cli._exit_codes import Exit
from natsery._native import _native_connection

from ..server import NatsServer
from .conftest import Result

Run = Callable[..., Result]

ASKING = {
    "ls": ("ls", "--wait", "0.1"),
    "ping": ("ping", "--wait", "0.1"),
    "info": ("info", "--wait", "0.1"),
    "stats": ("stats", "--wait", "0.1"),
    "request": ("request", "math.add", "1+2", "--timeout", "0.1"),
}

COMMANDS = {
    **ASKING,
    "top": ("top", "--once", "--interval", "0.1"),
    "run": ("run", str(Path(__file__).parents[2] / "examples" / "calc.py")),
}

every_command = pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
every_asking_command = pytest.mark.parametrize("command", ASKING.values(), ids=ASKING)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_server_check, "SERVER_SECONDS", 0.1)
    monkeypatch.setattr(_native_connection, "CLOSE_SECONDS", 0.1)


@pytest.fixture(scope="module")
def guarded() -> Iterator[NatsServer]:
    with NatsServer("authorization { user: u, password: right }") as server:
        yield server


@pytest.fixture
def faulty() -> Iterator[NatsServer]:
    with NatsServer() as server:
        yield server
        if server.process is not None:
            server.process.send_signal(signal.SIGCONT)


@every_command
def test_no_server(run: Run, command: tuple[str, ...]) -> None:
    result = run(*command, url="nats://127.0.0.1:1")
    assert result == Result(
        Exit.UNREACHABLE, "", "Error: cannot connect to NATS (nats://127.0.0.1:1: Connection refused)\n"
    )


@every_command
def test_a_wrong_password(run: Run, guarded: NatsServer, command: tuple[str, ...]) -> None:
    result = run(*command, "--user", "u", "--password", "wrong", url=guarded.url)
    line = f"Error: {guarded.url} refuses the credentials: Authorization Violation\n"
    assert result == Result(Exit.UNREACHABLE, "", line)


@every_command
def test_a_server_that_is_frozen_already(run: Run, faulty: NatsServer, command: tuple[str, ...]) -> None:
    faulty.freeze()
    result = run(*command, "--connect-timeout", "0.1", url=faulty.url)
    assert (result.status, result.out) == (Exit.UNREACHABLE, "")
    assert result.err.startswith(f"Error: cannot connect to NATS ({faulty.url}: ")
    assert result.err.count("\n") == 1


@every_asking_command
@pytest.mark.parametrize(
    ("fault", "status", "line"),
    [
        ("freeze", Exit.TIMEOUT, "the server does not answer any more"),
        ("kill", Exit.UNREACHABLE, "the connection to the server is lost"),
    ],
)
def test_a_server_that_fails_while_it_is_asked(
    run: Run,
    faulty: NatsServer,
    command: tuple[str, ...],
    fault: str,
    status: Exit,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    has_failed = threading.Event()

    async def check_when_it_has_failed(nc: natsery.NativeConnection) -> None:
        """However long the fault takes, it comes before the look at the server."""
        await anyio.to_thread.run_sync(has_failed.wait)
        while fault == "kill" and nc.is_connected:
            await anyio.sleep(0.01)
        await _server_check.check_server(nc)

    for module in (_query, _list_commands, _request_command):
        monkeypatch.setattr(module, "check_server", check_when_it_has_failed)

    async def fail_when_asked(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        async with natsery.connect(faulty.url, reconnect=False) as nc:
            async with nc.subscribe("$SRV.>") as discovery, nc.subscribe("math.add") as requests:
                task_status.started()
                messages = requests if command[0] == "request" else discovery
                await messages.receive()
                getattr(faulty, fault)()
                has_failed.set()

    with anyio.from_thread.start_blocking_portal("trio") as portal:
        future, _ = portal.start_task(fail_when_asked)
        result = run(*command, url=faulty.url)
        future.result()
    assert result == Result(status, "", f"Error: {line}\n")
