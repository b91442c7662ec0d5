"""``natsery run`` in one process: ready, asked to stop, drained; and what keeps it from starting."""

from __future__ import annotations

import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from natsery._cli._exit_codes import Exit
from natsery._cli._run import _reloading
from natsery._cli._run import _run_command as _run

from ..bounds import HANG_SECONDS
from ..server import NatsServer, allowing
from .conftest import Result
from .programs import MODULE, Asker, answer, asking, serving

Run = Callable[..., Result]

INT, TERM = signal.SIGINT, signal.SIGTERM


@pytest.fixture(scope="module")
def server() -> Iterator[NatsServer]:
    """A server of this module's own, so that nobody else serves there."""
    with NatsServer() as server:
        yield server


@pytest.fixture
def asker(server: NatsServer) -> Iterator[Asker]:
    with asking(server.url) as asker:
        yield asker


@pytest.mark.parametrize(
    ("options", "loop", "how"),
    [
        ([], "trio", TERM),
        (["--backend", "asyncio"], "asyncio", INT),
        (["--uvloop"], "asyncio with uvloop", TERM),
    ],
)
def test_it_serves_and_drains(
    server: NatsServer, asker: Asker, tmp_path: Path, options: list[str], loop: str, how: signal.Signals
) -> None:
    with serving(tmp_path, *options, url=server.url) as program:
        program.wait_for("ready")
        assert asker.ask("math.echo", b"hello") == "hello"
        held = [asker.begin("math.hold") for _ in range(2)]
        for _ in held:
            program.wait_for("holding")
        program.send(how)
        program.wait_for("draining")
        (tmp_path / "go").touch()
        assert [answer(each) for each in held] == ["held", "held"]
        assert program.wait() == 0, program.output
    lines = program.output.splitlines()
    assert lines[:8] == [
        "loading",
        "calc 1.0.0, instance me",
        "  Endpoint  Subject    Queue group",
        "  echo      math.echo  q",
        "  hold      math.hold  q",
        "  leave     leave      q",
        "  fail      fail       q",
        f"ready at {server.url} on {loop}",
    ]
    assert lines[10] == "draining: 2 requests in flight, 10 s left"
    assert lines[-1] == "stopped: 2 requests drained, 3 in all"
    assert not server.subscriptions()[1:]  # but for the asker's own inbox


@pytest.mark.parametrize(("first", "second", "status"), [(INT, TERM, 143), (TERM, INT, 130)])
def test_a_second_signal_cuts_off_and_every_request_gets_its_503(
    server: NatsServer, asker: Asker, tmp_path: Path, first: signal.Signals, second: signal.Signals, status: int
) -> None:
    with serving(tmp_path, "service:more", "--grace", "inf", url=server.url) as program:
        program.wait_for("ready")
        held = [asker.begin("math.hold"), asker.begin("hold")]
        for _ in held:
            program.wait_for("holding")
        program.send(first)
        program.wait_for("draining: 2 requests in flight\n")
        program.send(second)
        assert program.wait() == status, program.output
        assert [answer(each) for each in held] == ["503:Service Stopping"] * 2
    assert program.output.endswith(
        "cutting off 2 requests\nstopped: 0 requests drained, 2 cut off with 503, 2 in all\n"
    )


def test_requests_that_outlast_the_grace_are_no_success(server: NatsServer, asker: Asker, tmp_path: Path) -> None:
    with serving(tmp_path, "--grace", "0.05", url=server.url) as program:
        program.wait_for("ready")
        held = asker.begin("math.hold")
        program.wait_for("holding")
        program.terminate()
        assert program.wait() == Exit.FAILED
        assert answer(held) == "503:Service Stopping"
    assert program.output.endswith("\nstopped: 0 requests drained, 1 cut off with 503, 1 in all\n")


@pytest.mark.parametrize(("how", "statuses"), [(INT, {0, 130, -INT}), (TERM, {0, -TERM})])
@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_signal_while_it_starts_ends_it(
    server: NatsServer, tmp_path: Path, how: signal.Signals, statuses: set[int], backend: str
) -> None:
    # An import that Ctrl-C strikes may leave a file open. If it strikes within an ``exec``, as dataclasses use it, Python
    # ends itself by the signal in the end, whatever the program makes of it; shells call that 130 as well.
    with serving(tmp_path, "--backend", backend, url=server.url, warnings="ignore") as program:
        program.wait_for("loading")
        program.send(how)
        status = program.wait()
    assert status in statuses, program.output
    if status in (130, -INT):
        assert program.output.endswith("\nnatsery: interrupted\n")
    assert "Traceback" not in program.output


def test_ctrl_c_while_the_module_is_loaded_is_one_line(tmp_path: Path) -> None:
    with serving(tmp_path, text="import time\nprint('loading', flush=True)\ntime.sleep(60)\n") as program:
        program.wait_for("loading")
        program.interrupt()
        assert program.wait() == 130
    assert program.output.split() == ["loading", "natsery:", "interrupted"]


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_ctrl_c_where_python_cannot_raise_is_not_forgotten(server: NatsServer, tmp_path: Path, backend: str) -> None:
    """It struck in a weak reference's callback, was printed as ignored, and the service went on."""
    text = f"""{MODULE}
import signal, weakref
given_up = type("GivenUp", (), {{}})()
reference = weakref.ref(given_up, lambda _: signal.raise_signal(signal.SIGINT))
del given_up
"""
    with serving(tmp_path, "--backend", backend, url=server.url, text=text) as program:
        assert program.wait() == 130
    assert program.output.split() == ["loading", "natsery:", "interrupted"]


def test_a_signal_while_it_connects_ends_it_with_nothing_to_drain(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        mute.settimeout(HANG_SECONDS)
        with serving(tmp_path, url=f"nats://127.0.0.1:{mute.getsockname()[1]}") as program:
            with mute.accept()[0]:  # it connects, and hears nothing
                program.terminate()
                assert program.wait() == 0
    assert program.output.endswith("stopped before it was ready\n")


def test_it_tells_of_disconnects_and_reconnects(tmp_path: Path) -> None:
    with NatsServer() as server, serving(tmp_path, url=server.url) as program:
        program.wait_for("ready")
        server.restart()
        program.wait_for(f"disconnected from NATS at {server.url}")
        program.wait_for(f"reconnected to NATS at {server.url}")
        program.terminate()
        assert program.wait() == 0


def test_a_program_with_a_log_of_its_own_has_natsery_s_there(tmp_path: Path) -> None:
    text = f"import logging\nlogging.basicConfig(level='INFO', format='mine: %(message)s')\n{MODULE}"
    with NatsServer() as server, serving(tmp_path, url=server.url, text=text) as program:
        program.wait_for("ready")
        server.restart()
        program.wait_for("mine: reconnected to NATS")
        program.terminate()
        assert program.wait() == 0
    assert program.output.count("reconnected") == 1


def test_an_exception_controls_no_terminal(server: NatsServer, asker: Asker, tmp_path: Path) -> None:
    """What a requester had sent, in an exception of the handler, went to the terminal as it was."""
    text = MODULE.replace("raise SystemExit(9)", r"raise ValueError('\x1b[31m\x9b')")
    with serving(tmp_path, url=server.url, text=text) as program:
        program.wait_for("ready")
        assert asker.ask("fail") == "500:Internal Server Error"
        program.wait_for("ValueError: \\x1b[31m\\x9b\n")
        program.terminate()
        assert program.wait() == 0
    assert "\x1b" not in program.output


def test_a_handler_that_wants_to_exit_ends_it(server: NatsServer, asker: Asker, tmp_path: Path) -> None:
    """It ended without a word, and with the handler's status, which could mean that all was drained."""
    with serving(tmp_path, url=server.url) as program:
        program.wait_for("ready")
        assert asker.ask("fail") == "500:Internal Server Error"
        assert program.wait() == 1
    assert "Error: service raised:\nTraceback" in program.output
    assert program.output.endswith("SystemExit: 9\nraised by the handler of endpoint 'fail'\n")


IN_PROCESSES = (
    MODULE
    + """

import signal
import time
import anyio.to_process


def compute() -> None:
    if os.environ.get("IGNORES"):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    open("computing", "w").close()
    while not os.path.exists("go"):
        time.sleep(0.01)


async def computed(request):
    await anyio.to_process.run_sync(compute)
    return b"computed"


async def is_computing(request):
    while not os.path.exists("computing"):
        await anyio.sleep(0.01)
    return b"yes"


config = natsery.ServiceConfig("calc", "1.0.0", endpoints=[hold, computed, is_computing])
"""
)


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_ctrl_c_that_interrupts_a_handler_s_process_too_is_a_clean_end(
    server: NatsServer, asker: Asker, tmp_path: Path, backend: str
) -> None:
    """It ended with 130: the KeyboardInterrupt of the process, which a terminal's Ctrl-C reaches as well, came out."""
    with serving(tmp_path, "--backend", backend, url=server.url, text=IN_PROCESSES) as program:
        program.wait_for("ready")
        computed, held = asker.begin("computed"), asker.begin("hold")
        assert asker.ask("is_computing") == "yes"
        program.wait_for("holding")
        os.killpg(program.pid, INT)
        assert answer(computed) == "500:Internal Server Error"
        (tmp_path / "go").touch()
        assert answer(held) == "held"
        assert program.wait() == 0, program.output
    # After it, asyncio may complain of having been told of the end of the process twice.
    assert re.search("drained, 3 in all$", program.output, re.MULTILINE)


IN_A_LIFESPAN = (
    IN_PROCESSES
    + """

from contextlib import asynccontextmanager


@asynccontextmanager
async def lifespan(nc):
    await anyio.to_process.run_sync(compute)
    yield


config = natsery.ServiceConfig("calc", "1.0.0", endpoints=[hold], lifespan=lifespan)
"""
)


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_ctrl_c_that_interrupts_a_process_of_a_start_is_a_clean_end(
    server: NatsServer, tmp_path: Path, backend: str
) -> None:
    """On trio, it ended with 130."""
    with serving(tmp_path, "--backend", backend, url=server.url, text=IN_A_LIFESPAN) as program:
        while not (tmp_path / "computing").exists():
            time.sleep(0.01)
        os.killpg(program.pid, INT)
        assert program.wait() == 0, program.output
    assert "stopped before it was ready\n" in program.output


def test_a_handler_s_process_that_ignores_ctrl_c_ends_its_work(
    server: NatsServer, asker: Asker, tmp_path: Path
) -> None:
    with serving(tmp_path, url=server.url, text=IN_PROCESSES, environment={"IGNORES": "1"}) as program:
        program.wait_for("ready")
        computed = asker.begin("computed")
        assert asker.ask("is_computing") == "yes"
        os.killpg(program.pid, INT)
        program.wait_for("draining")
        (tmp_path / "go").touch()
        assert answer(computed) == "computed"
        assert program.wait() == 0, program.output


def test_a_server_of_its_own(tmp_path: Path) -> None:
    with serving(tmp_path, "--embedded-server", "--prefix", "$OWN") as program:
        url = program.wait_for("nats-server at").split()[2].rstrip(",")
        program.wait_for(f"ready at {url}")
        with asking(url) as asker:
            assert asker.ask("math.echo", b"hello") == "hello"
            assert '"calc"' in asker.ask("$OWN.PING.calc")
        program.interrupt()
        assert program.wait() == 0
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))


def test_an_error_of_the_system_in_a_lifespan_is_shown_with_its_place(server: NatsServer, tmp_path: Path) -> None:
    """It was one line, which could be taken for an error of the connection to NATS."""
    (tmp_path / "away.py").write_text(
        "import contextlib, natsery\n"
        "@contextlib.asynccontextmanager\n"
        "async def lifespan(nc):\n"
        "    raise ConnectionRefusedError('the database is away')\n"
        "    yield\n"
        "config = natsery.ServiceConfig('calc', '1.0.0', lifespan=lifespan)\n"
    )
    with serving(tmp_path, "away", url=server.url) as program:
        assert program.wait() == Exit.FAILED
    assert "Error: away raised:\nTraceback" in program.output
    assert program.output.endswith("\nConnectionRefusedError: the database is away\n")


def test_another_server_that_a_lifespan_cannot_reach_is_not_taken_for_this_one(
    server: NatsServer, tmp_path: Path
) -> None:
    (tmp_path / "away.py").write_text(
        "import contextlib, natsery\n"
        "@contextlib.asynccontextmanager\n"
        "async def lifespan(nc):\n"
        "    async with natsery.connect('nats://127.0.0.1:1', connect_timeout=1) as other:\n"
        "        yield other\n"
        "config = natsery.ServiceConfig('calc', '1.0.0', lifespan=lifespan)\n"
    )
    for options in ((), ("--wait-for-server",)):
        with serving(tmp_path, "away", *options, url=server.url) as program:
            assert program.wait() == Exit.FAILED, program.output
        assert "Error: away raised:\nTraceback" in program.output
        assert "in lifespan" in program.output


def test_progress_on_a_terminal_is_one_line_that_changes(server: NatsServer, asker: Asker, tmp_path: Path) -> None:
    (tmp_path / "service.py").write_text(MODULE)
    terminal, end = pty.openpty()
    environment = {**os.environ, "NATS_URL": server.url, "TERM": "xterm"}
    command = [sys.executable, "-m", "natsery", "run", "service"]
    process = subprocess.Popen(command, stdin=end, stdout=end, stderr=end, cwd=tmp_path, env=environment)
    os.close(end)
    shown = b""

    def read_until(text: bytes, times: int = 1) -> None:
        nonlocal shown
        while shown.count(text) < times:
            shown += os.read(terminal, 4096)

    try:
        read_until(b"ready")
        held = asker.begin("math.hold")
        read_until(b"holding")
        process.send_signal(TERM)
        read_until(b"\rdraining: 1 request in flight, ", times=2)
        (tmp_path / "go").touch()
        assert answer(held) == "held"
        read_until(b" s left\x1b[K\r\nstopped: 1 request drained, 1 in all\r\n")
        assert process.wait(HANG_SECONDS) == 0
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


def test_nobody_has_to_read_what_it_says(server: NatsServer, asker: Asker, tmp_path: Path) -> None:
    """A terminal that is closed, or a log's reader that dies, must not cost requests."""
    (tmp_path / "service.py").write_text(MODULE)
    command = [sys.executable, "-m", "natsery", "run", "service"]
    environment = {**os.environ, "NATS_URL": server.url}
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env=environment,
    )
    try:
        assert process.stderr is not None
        while not process.stderr.readline().startswith(b"ready"):
            assert process.poll() is None
        process.stderr.close()
        held = asker.begin("math.hold")
        asker.ask("math.echo")  # whatever has come before it has come
        process.send_signal(signal.SIGHUP)
        (tmp_path / "go").touch()
        assert answer(held) == "held"
        assert process.wait(HANG_SECONDS) == 0
    finally:
        process.kill()
        process.wait()


# What keeps it from starting


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The module, importable in this process."""
    (tmp_path / "service.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("service", None)


def test_a_module_that_cannot_be_served_is_wrong_usage(run: Run) -> None:
    error = f"Error: there is no module 'natsery_absent' in {Path.cwd()}, nor is one installed\n"
    assert run("run", "natsery_absent") == Result(Exit.USAGE, "", error)
    assert run("run").status == Exit.USAGE


@pytest.mark.usefixtures("module")
def test_a_server_that_is_away_is_one_line(run: Run) -> None:
    result = run("run", "service")
    assert (result.status, result.err.count("\n")) == (Exit.UNREACHABLE, 1)
    assert result.err.startswith("Error: cannot connect to NATS (nats://127.0.0.1:1: ")


@pytest.mark.usefixtures("module")
def test_what_a_server_refuses_is_one_line(run: Run) -> None:
    with NatsServer(allowing(subscribe="_INBOX.> $SRV.> math.>")) as server:
        wrong = run("run", "service", url=server.url.replace("//", "//u:wrong@"))
        assert wrong.err == f"Error: {server.url} refuses the credentials: Authorization Violation\n"
        assert wrong.status == Exit.UNREACHABLE
        denied = run("run", "service", url=server.url.replace("//", "//u:p@"))
        assert denied.err == (
            "Error: endpoint 'leave': the server denies subscribing to 'leave' (queue group 'q'); "
            "check this user's permissions\n"
        )
        assert denied.status == Exit.FAILED


@pytest.mark.usefixtures("module")
def test_options_that_cannot_be_are_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("run", "service", "--uvloop", "--backend", "trio").status == Exit.USAGE
    assert run("run", "service", "--workers", "0").status == Exit.USAGE
    for grace in ("-1", "nan"):
        result = run("run", "service", "--grace", grace)
        assert result.err.startswith("Error: --grace: must be a number of seconds, 0 or more; got ")
        assert result.status == Exit.USAGE
    for watchdog in ("0", "inf", "nan"):
        result = run("run", "service", "--watchdog", watchdog)
        assert result.err.startswith("Error: --watchdog: must be a number of seconds, more than 0; got ")
        assert result.status == Exit.USAGE
    result = run("run", "service", "--max-requests", "9")
    assert result.status == Exit.USAGE
    assert "--max-requests exchanges workers; add --workers N." in result.err
    result = run("run", "service", "--workers", "2", "--max-requests-jitter", "9")
    assert result.status == Exit.USAGE
    assert "--max-requests-jitter adds to --max-requests; give that as well." in result.err
    assert run("run", "service", "--workers", "2", "--max-requests", "0").status == Exit.USAGE
    assert run("run", "service", "--watchdog", "1", "--embedded-server").status == Exit.USAGE
    for module in (_run, _reloading):
        monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    message = "Error: --uvloop needs uvloop; run: pip install 'natsery[uvloop]'\n"
    assert run("run", "service", "--uvloop") == Result(Exit.FAILED, "", message)
    message = "Error: --reload needs watchfiles; run: pip install 'natsery[reload]'\n"
    assert run("run", "service", "--reload") == Result(Exit.FAILED, "", message)


@pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["alone", "supervised"])
def test_wrong_settings_are_refused_before_anything_starts(run: Run, workers: tuple[str, ...]) -> None:
    """The module would be imported first, and with workers each of them would refuse the settings."""
    result = run("run", "no_such_module", "--server", "http://a", *workers)
    text = "Error: --server: must begin with nats:// or tls://; got 'http://a'\n"
    assert result == Result(Exit.USAGE, "", text)


@pytest.mark.usefixtures("module")
def test_help_keeps_its_examples_apart(run: Run) -> None:
    assert "\n    natsery run calc\n    natsery run shop" in run("run", "--help").out
