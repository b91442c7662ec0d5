"""``natsery run`` with a supervisor: workers that crash, drain, are orphaned, and follow the files."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ..bounds import HANG_SECONDS
from ..processes import Program, running
from ..server import NatsServer
from .programs import MODULE, answer, asking, serving
from .pseudo_terminal import terminal

REQUESTER = Path(__file__).parents[2] / "benchmarks" / "requester.py"
OUTSTANDING = 64


@pytest.fixture(scope="module")
def server() -> Iterator[NatsServer]:
    """A server of this module's own, so that nobody else serves there."""
    with NatsServer() as server:
        yield server


@contextmanager
def loading(server: NatsServer) -> Iterator[Program]:
    """A process that sends requests, from the beginning of the block on."""
    arguments = (str(REQUESTER), server.url, "math.echo", "--count", "0", "--outstanding", str(OUTSTANDING))
    with running(*arguments) as requester:
        inbox = f"_INBOX.{requester.pid}x"
        server.wait_until(
            lambda: any(each.startswith(inbox) for each in server.subscriptions()), "the requester did not start"
        )
        yield requester


def results(requester: Program) -> dict[str, int]:
    requester.terminate()
    assert requester.wait() == 0, requester.output
    return json.loads(requester.output)


def test_four_workers_under_load_lose_one_and_drain(server: NatsServer, tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "4", url=server.url) as program:
        program.wait_for(f"4 workers ready at {server.url} on trio")
        pids = dict(
            re.findall(r"^worker (\d) ready, process (\d+), instance me-\1 on \S+$", program.output, re.MULTILINE)
        )
        assert sorted(pids) == ["1", "2", "3", "4"], program.output
        with loading(server) as before, asking(server.url) as asker:
            answers = {asker.ask("math.echo", b"hello") for _ in range(100)}
            os.kill(int(pids["3"]), signal.SIGKILL)
            program.wait_for("worker 3 was ended by SIGKILL; it starts again in 0.1 s")
            program.wait_for("worker 3 ready")
            before.terminate()
            with loading(server) as requester:
                answers |= {asker.ask("math.echo", b"hello") for _ in range(100)}
                program.terminate()
                assert program.wait() == 0, program.output
                seen = results(requester)
            seen_before = results(before)  # its second signal: no worker is left that could answer
    assert answers == {"hello"}
    assert seen_before["answered"] + seen_before["lost"] == seen_before["requests"] > 0
    assert seen_before["lost"] <= OUTSTANDING  # what the killed one held
    assert seen["answered"] + seen["refused"] == seen["requests"]
    assert (seen["lost"], seen["failed"], seen["unexpected"]) == (0, 0, 0)
    assert seen["answered"] > 0
    ends = re.findall(
        r"^worker (\d) ended with status 0: [\d,]+ requests? drained, [\d,]+ in all$", program.output, re.MULTILINE
    )
    assert sorted(ends) == ["1", "2", "3", "4"]
    assert program.output.count("4 workers ready") == 1


def test_a_hangup_exchanges_the_workers_of_a_daemon_and_loses_nothing(server: NatsServer, tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "2", url=server.url) as program:
        program.wait_for("2 workers ready")
        with loading(server) as requester:
            program.send(signal.SIGHUP)
            program.wait_for("exchanging 2 workers")
            program.send(signal.SIGHUP)
            program.wait_for("exchanged 2 workers")
            seen = results(requester)
        for pid in re.findall(r"ready, process (\d+)", program.output)[-2:]:
            os.kill(int(pid), signal.SIGHUP)  # as when all processes get it: it is the supervisor's affair
        with asking(server.url) as asker:
            assert asker.ask("math.echo", b"hello") == "hello"
        program.terminate()
        assert program.wait() == 0, program.output
    assert seen["answered"] == seen["requests"] > 0
    assert program.output.count("the old worker 1 ended with status 0") in {1, 2}
    assert program.output.count("the old worker 2 ended with status 0") in {1, 2}


def test_a_worker_that_has_ended_enough_requests_is_exchanged(server: NatsServer, tmp_path: Path) -> None:
    options = ("--workers", "2", "--max-requests", "500", "--max-requests-jitter", "100")
    with serving(tmp_path, *options, url=server.url) as program:
        program.wait_for("2 workers ready")
        with loading(server) as requester:
            for _ in range(2):
                program.wait_for("the old worker")
            seen = results(requester)
        program.terminate()
        assert program.wait() == 0, program.output
    assert seen["answered"] == seen["requests"] > 1000
    assert re.search(r"^worker \d has ended [\d,]+ requests and is exchanged$", program.output, re.MULTILINE)


def test_each_worker_says_its_instances_process_and_host(server: NatsServer, tmp_path: Path) -> None:
    host = socket.gethostname()
    with serving(tmp_path, "service:more", "--workers", "2", url=server.url) as program:
        program.wait_for("2 workers ready")
        program.terminate()
        assert program.wait() == 0, program.output
    lines = program.output.splitlines()
    assert "worker 1: calc 1.0.0, instance me-1" in lines
    assert [re.sub(r"instance \w{22}$|\d{2,}", "N", each) for each in lines if each.startswith("worker 2")][:3] == [
        "worker 2: calc 1.0.0, instance me-2",
        "worker 2: more 2.0.0, N",
        re.sub(r"\d{2,}", "N", f"worker 2 ready, process 1234 on {host}"),
    ]


def test_in_a_terminal_a_signal_exchanges_and_its_end_drains(server: NatsServer, tmp_path: Path) -> None:
    (tmp_path / "service.py").write_text(MODULE)
    with terminal("run", str(tmp_path / "service.py"), "--workers", "1", "-s", server.url) as screen:
        screen.wait_for("1 worker ready")
        screen.signal(signal.SIGHUP)
        screen.wait_for("exchanged 1 worker")
        screen.hang_up()
        assert screen.process.wait(HANG_SECONDS) == 0
    server.wait_until(lambda: not any("math.echo" in each for each in server.subscriptions()), "a worker is left")


def test_workers_whose_supervisor_is_killed_drain_and_end(server: NatsServer, tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "2", url=server.url) as program, asking(server.url) as asker:
        program.wait_for("2 workers ready")
        held = asker.begin("math.hold")
        program.wait_for("holding")
        program.send(signal.SIGKILL)
        for _ in range(2):
            program.wait_for("the supervisor has ended")
        (tmp_path / "go").touch()
        assert answer(held) == "held"
        program.wait()
    ends = re.findall(r"worker \d: stopped: (.*)", program.output)
    assert sorted(ends) == ["0 requests drained, 0 in all", "1 request drained, 1 in all"]


def test_a_second_signal_reaches_the_workers(server: NatsServer, tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "1", url=server.url) as program, asking(server.url) as asker:
        program.wait_for("1 worker ready")
        held = asker.begin("math.hold")
        program.wait_for("holding")
        program.interrupt()
        program.wait_for("draining: 1 request in flight, 10 s left")
        program.terminate()
        assert program.wait() == 143
        assert answer(held) == "503:Service Stopping"
    assert program.output.endswith(
        "cutting off 1 request\nworker 1 ended with status 143: 0 requests drained, 1 cut off with 503, 1 in all\n"
    )


def test_a_signal_to_all_processes_at_once_counts_once(server: NatsServer, tmp_path: Path) -> None:
    """systemd's default sends SIGTERM to supervisor and workers, which must not amount to a second signal."""
    with serving(tmp_path, "--workers", "1", url=server.url) as program, asking(server.url) as asker:
        worker = int(program.wait_for("worker 1 ready, process").split(",")[1].split()[1])
        held = asker.begin("math.hold")
        program.wait_for("holding")
        program.terminate()
        program.wait_for("draining: 1 request in flight")
        for _ in range(2):
            os.kill(worker, signal.SIGTERM)
        (tmp_path / "go").touch()
        assert answer(held) == "held"
        assert program.wait() == 0, program.output


def test_what_cannot_be_loaded_is_said_once(server: NatsServer, tmp_path: Path) -> None:
    with serving(tmp_path, "nothing", "--workers", "4", "--embedded-server") as program:
        assert program.wait() == 1
    assert program.output.splitlines()[1:] == [
        f"Error: there is no module 'nothing' in {tmp_path}, nor is one installed",
        "worker 1 ended with status 2 and is given up: the service cannot be served as it is",
    ]


def test_it_follows_the_files(server: NatsServer, tmp_path: Path) -> None:
    with serving(tmp_path, "--reload", "--backend", "asyncio", url=server.url) as program:
        program.wait_for("calc 1.0.0, instance me")
        program.wait_for("ready")
        module = tmp_path / "service.py"
        with asking(server.url) as asker:
            held = asker.begin("math.hold")
            program.wait_for("holding")
            module.write_text(MODULE.replace("1.0.0", "1.1.0"))
            program.wait_for("service.py changed: reloading")
            program.wait_for("draining: 1 request in flight")
            (tmp_path / "go").touch()
            assert answer(held) == "held"
        program.wait_for("the worker ended with status 0: 1 request drained, 1 in all")
        program.wait_for("calc 1.1.0, instance me")
        program.wait_for("ready")
        module.write_text("config = (")
        program.wait_for("SyntaxError")
        program.wait_for("waiting for a Python file to change")
        module.write_text(MODULE)
        program.wait_for("calc 1.0.0, instance me")
        program.wait_for("ready")
        program.interrupt()
        assert program.wait() == 0, program.output


def test_ctrl_c_ends_the_wait_for_a_change(server: NatsServer, tmp_path: Path) -> None:
    with serving(tmp_path, "--reload", "--workers", "2", url=server.url, text="1 / 0") as program:
        program.wait_for("ZeroDivisionError")
        program.wait_for("waiting for a Python file to change")
        program.interrupt()
        assert program.wait() == 0
