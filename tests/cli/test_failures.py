"""What every command says, and how it ends, when the server is not as it should be: one line, and no traceback."""

from __future__ import annotations

import signal
import subprocess
import sys
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
from natsery._cli._export import _exporter
from natsery._native import _native_connection

from ..processes import running
from ..server import NatsServer
from .conftest import Result

Run = Callable[..., Result]

ASKING = {
    "ls": ("ls", "--wait", "0.1"),
    "ping": ("ping", "--wait", "0.1"),
    "info": ("info", "--wait", "0.1"),
    "stats": ("stats", "--wait", "0.1"),
    "export": ("export", "--once", "--wait", "0.1"),
    "request": ("request", "math.add", "1+2", "--timeout", "0.1"),
}

ADDRESSES = "such as 9100, 127.0.0.1:9100, [::1]:9100 or :9100"

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

    for module in (_query, _list_commands, _request_command, _exporter):
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


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("nonsense",), "No such command 'nonsense'. (see 'natsery --help')"),
        (("--nonsense",), "No such option '--nonsense'. (see 'natsery --help')"),
        (("ls", "--nonsense"), "No such option '--nonsense'. (see 'natsery ls --help')"),
        (("ls", "a", "b", "c"), "Got unexpected extra argument (c) (see 'natsery ls --help')"),
        (("request",), "Give a SUBJECT, or --service and --endpoint. (see 'natsery request --help')"),
        (("run",), "Missing argument 'MODULE[:CONFIG]'. (see 'natsery run --help')"),
        (
            ("ls", "--wait", "long"),
            "Invalid value for '--wait': 'long' is not a valid float range. (see 'natsery ls --help')",
        ),
        *(
            (
                (command, "a", option, "nan"),
                f"Invalid value for '{option}': 'nan' is not a number of seconds. (see 'natsery {command} --help')",
            )
            for command, option in (("ls", "--wait"), ("ping", "--stall"), ("request", "--timeout"))
        ),
        (
            ("request", "a", "b", "-f", __file__),
            "DATA and --file cannot be given together. (see 'natsery request --help')",
        ),
        *(
            (
                ("export", "--listen", address),
                f"Invalid value for '--listen': {address!r} is not [HOST:]PORT, {ADDRESSES}. (see 'natsery export --help')",
            )
            for address in ("", "localhost", "::1:9100", "localhost:", "localhost:65536", "a b:1", ":9100x")
        ),
        (
            ("export", "--once", "--wait", "inf"),
            "Invalid value for --wait: must be a number of seconds (see 'natsery export --help')",
        ),
        *(
            (("export", *arguments), "Give either --listen [HOST:]PORT or --once. (see 'natsery export --help')")
            for arguments in ((), ("--once", "--listen", ":9100"))
        ),
        (
            ("run", "calc", "--uvloop", "--backend", "trio"),
            "--uvloop is for asyncio; leave out --backend trio. (see 'natsery run --help')",
        ),
    ],
)
def test_wrong_usage_is_one_line(run: Run, arguments: tuple[str, ...], line: str) -> None:
    """It was four, beginning with the usage."""
    result = run(*arguments)
    # Versions of click differ in how they write some of these.
    plain = str.maketrans("", "", "':.")
    expected = Result(Exit.USAGE, "", f"Error: {line}\n".translate(plain))
    assert Result(result.status, result.out, result.err.translate(plain)) == expected
    assert result.err.startswith("Error: ")


def test_no_error_controls_the_terminal(run: Run, contexts: Path) -> None:
    result = run("ls", "--context", "\x1b[31m")
    assert (result.status, result.out) == (Exit.USAGE, "")
    assert "\x1b" not in result.err
    assert result.err.count("\\x1b[31m") == 2


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(
    "arguments", [("ls",), ("stats", "--json"), ("request", "repeat", "-v", "-f", "-")], ids=["ls", "stats", "request"]
)
def test_streams_that_are_closed(services: str, arguments: tuple[str, ...], closed: str) -> None:
    """It was a traceback: Python has no file objects for them."""
    result = subprocess.run(
        ["sh", "-c", f'exec "$0" -m natsery "$@" {closed}', sys.executable, *arguments, "-s", services],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == Exit.OK
    assert b"Traceback" not in result.stderr
    assert (result.stdout == b"") == (">&-" in closed.split())


def test_a_file_that_cannot_be_read_is_one_line(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was a traceback."""
    path = tmp_path / "data"
    path.write_bytes(b"")

    def fail(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", fail)
    result = run("request", "a", "-f", str(path))
    assert (result.status, result.out) == (Exit.FAILED, "")
    assert result.err == f"Error: [Errno 13] Permission denied: '{path}'\n"


INTERRUPTED = """
import sys
import weakref

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        # Not where coverage looks for what it is to measure.
        if name == {!r} and sys._getframe(2).f_code.co_name == "_find_and_load_unlocked":
            {}

def raise_where_nobody_can_catch():
    def fail(_):
        raise KeyboardInterrupt
    given_up = type("GivenUp", (), {{}})()
    reference = weakref.ref(given_up, fail)
    del given_up

sys.meta_path.insert(0, Interrupting())
from natsery_command import main
sys.exit(main())
"""


@pytest.mark.parametrize("how", ["raise KeyboardInterrupt", "raise_where_nobody_can_catch()"])
@pytest.mark.parametrize("module", ["natsery", "anyio", "natsery.__main__", "click", "natsery._cli._app"])
def test_ctrl_c_while_the_command_is_imported_is_one_line(module: str, how: str, tmp_path: Path) -> None:
    """It was a traceback of imports, or forgotten."""
    with running("-c", INTERRUPTED.format(module, how), cwd=tmp_path) as program:
        assert program.wait() == Exit.INTERRUPTED
    assert program.output == "natsery: interrupted\n"
