"""Workers that are exchanged without a request lost, those that hang, and what systemd is told."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from natsery._cli._exit_codes import Exit
from natsery._cli._run._systemd import notifier

from ..processes import SECONDS, Program
from ..server import NatsServer
from .conftest import Result
from .programs import MODULE, answer, asking, serving
from .test_workers import loading, results

Run = Callable[..., Result]

HUP = signal.SIGHUP


@pytest.fixture(scope="module")
def server() -> Iterator[NatsServer]:
    """A server of this module's own, so that nobody else serves there."""
    with NatsServer() as server:
        yield server


def pids_of(program: Program) -> list[str]:
    return re.findall(r"^worker \d ready, process (\d+) on ", program.output, re.MULTILINE)


def test_sighup_exchanges_the_workers_under_load(server: NatsServer, tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "2", "--metrics", "0", url=server.url) as program:
        program.wait_for("2 workers ready")
        with loading(server) as requester, asking(server.url) as asker:
            for _ in range(2):
                program.send(HUP)
                program.wait_for("2 workers exchanged")
                assert asker.ask("math.echo", b"hello") == "hello"
            seen = results(requester)
        program.terminate()
        assert program.wait() == 0, program.output
    assert (seen["lost"], seen["failed"], seen["refused"], seen["unexpected"]) == (0, 0, 0, 0)
    assert seen["answered"] == seen["requests"] > 0
    assert len(set(pids_of(program))) == 6
    assert len(re.findall(r"worker \d, process \d+, ended with status 0: ", program.output)) == 4


def test_what_a_worker_holds_is_answered_before_the_next_is_exchanged(server: NatsServer, tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "1", url=server.url) as program, asking(server.url) as asker:
        program.wait_for("1 worker ready")
        held = asker.begin("math.hold")
        program.wait_for("holding")
        program.send(HUP)
        program.wait_for("worker 1 ready")
        assert asker.ask("math.echo", b"new") == "new"
        (tmp_path / "go").touch()
        assert answer(held) == "held"
        program.wait_for("1 worker exchanged")
        program.terminate()
        assert program.wait() == 0, program.output


def test_a_new_worker_that_does_not_come_up_leaves_the_old_one(server: NatsServer, tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "2", url=server.url) as program, asking(server.url) as asker:
        program.wait_for("2 workers ready")
        module = (tmp_path / "service.py").read_text()
        (tmp_path / "service.py").write_text("raise ValueError('not today')")
        program.send(HUP)
        for number in (1, 2):
            program.wait_for(f"the new worker {number} did not come up; process ")
        assert {asker.ask("math.echo", b"hello") for _ in range(20)} == {"hello"}
        (tmp_path / "service.py").write_text(module)
        program.send(HUP)
        program.wait_for("2 workers exchanged")
        program.terminate()
        assert program.wait() == 0, program.output


def test_a_stop_ends_an_exchange(server: NatsServer, tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "3", url=server.url) as program, asking(server.url) as asker:
        program.wait_for("3 workers ready")
        held = [asker.begin("math.hold") for _ in range(6)]
        for _ in held:
            program.wait_for("holding")
        program.send(HUP)
        program.wait_for("worker 1 ready")
        program.terminate()
        program.wait_for("draining")
        (tmp_path / "go").touch()
        assert {answer(each) for each in held} == {"held"}
        assert program.wait() == 0, program.output
    assert "exchanged" not in program.output


def test_a_worker_is_exchanged_after_its_requests(server: NatsServer, tmp_path: Path) -> None:
    options = ("--workers", "1", "--max-requests", "50", "--max-requests-jitter", "5")
    with serving(tmp_path, *options, url=server.url) as program, asking(server.url) as asker:
        program.wait_for("1 worker ready")
        for _ in range(60):
            assert asker.ask("math.echo", b"hello") == "hello"
        program.wait_for("1 worker exchanged")
        assert asker.ask("math.echo", b"hello") == "hello"
        program.terminate()
        assert program.wait() == 0, program.output
    assert len(set(pids_of(program))) == 2


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--max-requests", "5"], "--max-requests is for workers, which replace each other; add --workers N"),
        (["--workers", "2", "--max-requests-jitter", "5"], "--max-requests-jitter is for --max-requests N"),
        (["--watchdog", "0"], "--watchdog"),
    ],
)
def test_options_that_make_no_sense(run: Run, options: list[str], text: str) -> None:
    result = run("run", "x", *options)
    assert result.status == Exit.USAGE
    assert text in result.err


HANGING = (
    MODULE
    + """

def spin():
    import time
    while os.path.exists("hang"):
        time.sleep(0.01)


async def hang(request):
    spin()
    return b"done"


config = natsery.ServiceConfig("calc", "1.0.0", endpoints=[natsery.group("math", [echo, hang])])
"""
)


@pytest.mark.parametrize("workers", [[], ["--workers", "2"]], ids=["alone", "workers"])
def test_a_worker_that_hangs_is_replaced(server: NatsServer, tmp_path: Path, workers: list[str]) -> None:
    (tmp_path / "hang").touch()
    options = ("--watchdog", "1", *workers)
    with serving(tmp_path, *options, url=server.url, text=HANGING) as program, asking(server.url) as asker:
        program.wait_for("workers ready" if workers else "ready at")
        asker.begin("math.hang")
        line = program.wait_for("the event loop has stood still for 1 s")
        assert "in the endpoint 'hang' of the service 'calc'; the process ends" in line
        traceback = program.wait_for("File ") + program.wait_for("File ")
        assert traceback.count("service.py") == 2
        assert "in hang" in traceback
        assert "in spin" in traceback
        (tmp_path / "hang").unlink()
        if workers:
            program.wait_for("ended with status 1; it starts again in 0.1 s")
            program.wait_for("ready, process")
            assert {asker.ask("math.echo", b"hello") for _ in range(20)} == {"hello"}
            program.terminate()
            assert program.wait() == 0, program.output
        else:
            assert program.wait() == Exit.FAILED, program.output


def test_a_process_that_was_stopped_has_not_hung(server: NatsServer, tmp_path: Path) -> None:
    with serving(tmp_path, "--watchdog", "2", url=server.url) as program, asking(server.url) as asker:
        program.wait_for("ready at")
        program.send(signal.SIGSTOP)
        with pytest.raises(TimeoutError):  # so much time passes that nobody answers
            asker.begin("math.echo").result(2.5)
        program.send(signal.SIGCONT)
        assert asker.ask("math.echo", b"hello") == "hello"
        program.terminate()
        assert program.wait() == 0, program.output


# systemd


@contextmanager
def listening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str = ""
) -> Iterator[Callable[[str], list[str]]]:
    """Give a function that reads datagrams until one has a text, and returns all."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        path = address or str(tmp_path / "notify")
        receiver.bind(path.replace("@", "\0", 1))
        receiver.settimeout(SECONDS)
        monkeypatch.setenv("NOTIFY_SOCKET", path)

        def read_until(text: str) -> list[str]:
            got: list[str] = []
            while not got or text not in got[-1]:
                got.append(receiver.recv(4096).decode())
            return got

        yield read_until


@pytest.mark.parametrize("workers", [[], ["--workers", "2"]], ids=["alone", "workers"])
def test_systemd_is_told(
    server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: list[str]
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    text = f"{MODULE}\nprint(os.environ.get('NOTIFY_SOCKET'), os.environ.get('WATCHDOG_USEC'))\n"
    with listening(tmp_path, monkeypatch, f"@natsery-{os.getpid()}") as read_until:
        with serving(tmp_path, *workers, url=server.url, text=text) as program:
            program.wait_for("None None" if workers else "loading")
            ready = read_until("READY=1")
            assert ready[-1].startswith("READY=1\nSTATUS=2 workers ready" if workers else "READY=1\nSTATUS=calc ready")
            assert "READY=1" not in "".join(ready[:-1])
            assert set(read_until("WATCHDOG=1")[-1].split("\n")) == {"WATCHDOG=1"}
            if workers:
                program.send(HUP)
                (*_, reloading) = read_until("RELOADING=1")
                assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+\nSTATUS=exchanging workers", reloading)
                read_until("READY=1")
            program.terminate()
            assert read_until("STOPPING=1")[-1] == "STOPPING=1\nSTATUS=draining"
            assert program.wait() == 0, program.output


def test_a_watchdog_of_another_process_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for process, expected in (("1", 0.0), (str(os.getpid()), 2.5), ("", 2.5)):
        monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere")
        monkeypatch.setenv("WATCHDOG_USEC", "2500000")
        monkeypatch.setenv("WATCHDOG_PID", process)
        assert notifier()._watchdog_seconds == expected
        assert "NOTIFY_SOCKET" not in os.environ
    monkeypatch.setenv("WATCHDOG_USEC", "x")
    assert notifier()._watchdog_seconds == 0


def test_a_socket_that_is_not_there_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/at/all")
    notifier().ready("ready")
