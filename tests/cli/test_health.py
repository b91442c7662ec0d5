"""``natsery run --health`` and ``natsery probe``: what probes are told."""

from __future__ import annotations

import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from natsery._cli._exit_codes import Exit

from ..bounds import HANG_SECONDS
from ..processes import Program
from ..server import NatsServer
from .conftest import Result
from .programs import MODULE, asking, serving

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def server() -> Iterator[NatsServer]:
    """A server of this module's own, so that nobody else serves there."""
    with NatsServer() as server:
        yield server


def url_of(program: Program) -> str:
    """Where it says that its health is, without the path."""
    return program.wait_for("health at ").strip().rpartition(" ")[2].removesuffix("/ready")


def get(url: str, path: str) -> tuple[int, str]:
    """The status and the text of a path."""
    try:
        with urllib.request.urlopen(url + path, timeout=HANG_SECONDS) as reply:
            return reply.status, reply.read().decode().strip()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode().strip()


def wait_for(url: str, expected: tuple[int, str]) -> None:
    """Wait until it is ready, or not ready for that reason."""
    found = get(url, "/ready")
    while found != expected:
        found = get(url, "/ready")


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_it_is_ready_from_the_subscriptions_to_the_drain(tmp_path: Path, backend: str) -> None:
    with (
        NatsServer() as server,
        serving(tmp_path, "--health", "0", "--wait-for-server", "--backend", backend, url=server.url) as program,
    ):
        url = url_of(program)
        program.wait_for("ready at")
        assert get(url, "/ready") == (200, "ready")
        assert get(url, "/live") == (200, "live")
        assert get(url, "/") == (404, "write /live or /ready")
        server.kill()
        wait_for(url, (503, "disconnected from the server"))
        assert get(url, "/live") == (200, "live")
        server.restart()
        wait_for(url, (200, "ready"))
        with asking(server.url) as asker:
            held = asker.begin("math.hold")
            program.wait_for("holding")
            program.terminate()
            program.wait_for("draining")
            assert get(url, "/ready") == (503, "draining")
            assert get(url, "/live") == (200, "live")
            (tmp_path / "go").touch()
            held.result(HANG_SECONDS)
        assert program.wait() == 0, program.output


def test_it_is_not_ready_before_there_is_a_server(tmp_path: Path) -> None:
    with NatsServer() as server:
        server.kill()
        with serving(tmp_path, "--health", "0", "--wait-for-server", url=server.url) as program:
            url = url_of(program)
            line = program.wait_for("waiting for a server")
            assert server.url.removeprefix("nats://") in line
            assert get(url, "/ready") == (503, "starting")
            server.restart()
            program.wait_for("the server is there")
            program.wait_for("ready at")
            wait_for(url, (200, "ready"))
            program.terminate()
            assert program.wait() == 0, program.output
        assert program.output.count("waiting for a server") == 1


def test_a_supervisor_answers_for_its_workers(tmp_path: Path) -> None:
    with NatsServer() as server, serving(tmp_path, "--workers", "2", "--health", "0", url=server.url) as program:
        url = url_of(program)
        program.wait_for("2 workers ready")
        assert get(url, "/ready") == (200, "ready")
        server.kill()
        wait_for(url, (503, "disconnected from the server: worker 1, worker 2"))
        server.restart()
        wait_for(url, (200, "ready"))
        program.terminate()
        assert program.wait() == 0, program.output


def test_a_wait_for_a_server_is_ended(tmp_path: Path) -> None:
    with serving(tmp_path, "--wait-for-server") as program:
        program.wait_for("waiting for a server")
        program.interrupt()
        assert program.wait() == 0
    assert program.output.endswith("stopped before it was ready\n")


def test_no_wait_helps_against_a_refusal(tmp_path: Path) -> None:
    with NatsServer("authorization { token: t }") as server:
        with serving(tmp_path, "--wait-for-server", url=server.url) as program:
            assert program.wait() == Exit.UNREACHABLE
    assert "waiting" not in program.output


def test_a_port_that_is_taken_is_one_line(server: NatsServer, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for options in ([], ["--workers", "2"]):
            with serving(tmp_path, "--health", str(port), *options, url=server.url) as program:
                assert program.wait() == Exit.FAILED
            line = f"Error: --health: cannot listen at 127.0.0.1:{port}: Address already in use; write another port, or 0 for a free one"
            assert program.output.splitlines()[-1] == line


# natsery probe


def test_an_instance_that_answers_is_alive(run: Run, services: str) -> None:
    for arguments in (("calc",), ("calc", "one"), ("calc", "two")):
        assert run("probe", *arguments, url=services) == Result(Exit.OK, "", "")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("calc", "three"), "the instance 'three' of the service 'calc' does not answer"),
        (("nobody",), "the service 'nobody' does not answer"),
    ],
)
def test_others_are_not(run: Run, services: str, arguments: tuple[str, ...], text: str) -> None:
    assert run("probe", *arguments, url=services) == Result(Exit.NOT_FOUND, "", f"Error: {text}\n")


def test_one_that_hangs_is_not(run: Run, tmp_path: Path, server: NatsServer) -> None:
    text = (
        MODULE + "\nasync def hang(request):\n    import time\n    time.sleep(60)\n\n\nstuck = natsery.ServiceConfig("
    )
    text += "'stuck', '1.0.0', endpoints=[hang])\n"
    with serving(tmp_path, "service:stuck", url=server.url, text=text) as program, asking(server.url) as asker:
        program.wait_for("ready")
        assert run("probe", "stuck", url=server.url).status == Exit.OK
        asker.begin("hang")
        result = run("probe", "stuck", "--wait", "0.5", url=server.url)
        while result.status == Exit.OK:  # the request is on its way
            result = run("probe", "stuck", "--wait", "0.5", url=server.url)
        assert result == Result(Exit.NOT_FOUND, "", "Error: the service 'stuck' does not answer\n")


def test_probe_says_what_it_needs(run: Run) -> None:
    assert run("probe").status == Exit.USAGE
    assert "NAME" in run("probe", "a b").err
    assert "ID" in run("probe", "calc", "a b").err


def test_it_imports_no_more_than_it_needs() -> None:
    """It runs every few seconds."""
    program = (
        "import sys; from natsery.__main__ import main; status = main(['probe', 'calc', '-s', 'nats://127.0.0.1:1']);"
        "print(status, [each for each in ('rich.console', 'natsery.testing', 'natsery._cli._discovery', 'trio') if each in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "3 []\n"
