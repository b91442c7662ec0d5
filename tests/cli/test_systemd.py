"""What ``natsery run`` tells systemd, through a socket such as systemd's."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from natsery._cli._run import _systemd
from natsery._cli._run._systemd import Systemd, without_variables

from ..bounds import HANG_SECONDS, bounded
from ..server import NatsServer
from ..virtual_time import in_virtual_time
from .programs import MODULE, answer, asking, serving

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(sys.platform == "win32", reason="it is for Unix")]

TELLING = MODULE.replace(
    "async def leave", 'async def variables(request):\n    return " ".join(os.environ).encode()\n\n\nasync def leave'
).replace("[echo, hold]", "[echo, hold, variables]")


@pytest.fixture
def anyio_backend() -> str:
    return "trio"


class Manager:
    """The socket of systemd."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(HANG_SECONDS)
        self._socket.bind(address.replace("@", "\0", 1))
        self.address = address
        self.messages: list[list[str]] = []

    def wait_for(self, line: str) -> list[str]:
        """Read until a message has this line."""
        while True:
            message = self._socket.recv(65_536).decode().split("\n")
            self.messages.append(message)
            if line in message:
                return message

    def take(self) -> list[list[str]]:
        """What has come."""
        self._socket.setblocking(False)
        messages = []
        while True:
            try:
                messages.append(self._socket.recv(65_536).decode().split("\n"))
            except BlockingIOError:
                return messages

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    abstract = request.param == "abstract"
    if abstract and sys.platform != "linux":
        pytest.skip("only Linux has abstract sockets")
    manager = Manager(f"@natsery-test-{os.getpid()}" if abstract else str(tmp_path / "notify"))
    yield manager
    manager.close()


@pytest.fixture(scope="module")
def server() -> Iterator[NatsServer]:
    """A server of this module's own, so that nobody else serves there."""
    with NatsServer() as server:
        yield server


def test_a_process_alone_tells_it_is_ready_alive_and_draining(
    server: NatsServer, tmp_path: Path, manager: Manager
) -> None:
    environment = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "20000"}
    with serving(tmp_path, url=server.url, environment=environment) as program, asking(server.url) as asker:
        assert manager.wait_for("READY=1") == ["READY=1", "STATUS=serving calc 1.0.0, 0 requests pending"]
        manager.wait_for("WATCHDOG=1")
        held = asker.begin("math.hold")
        program.wait_for("holding")
        manager.wait_for("STATUS=serving calc 1.0.0, 1 request pending")
        program.terminate()
        assert manager.wait_for("STOPPING=1") == ["STOPPING=1", "STATUS=draining, 1 request pending"]
        (tmp_path / "go").touch()
        assert answer(held) == "held"
        assert program.wait() == 0, program.output
    assert "STATUS=starting" in manager.messages[0]


def test_a_supervisor_tells_it_for_all_its_workers(server: NatsServer, tmp_path: Path, manager: Manager) -> None:
    environment = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "20000"}
    with serving(tmp_path, "--workers", "2", url=server.url, text=TELLING, environment=environment) as program:
        assert manager.wait_for("READY=1") == ["READY=1", "STATUS=serving calc 1.0.0, 2 of 2 workers ready"]
        manager.wait_for("WATCHDOG=1")
        with asking(server.url) as asker:
            names = set(asker.ask("math.variables").split())
        assert "NATS_URL" in names
        assert not names & _systemd.VARIABLES
        before = time.monotonic_ns() // 1000
        program.send(signal.SIGHUP)
        reloading, since, *_ = manager.wait_for("RELOADING=1")
        assert reloading == "RELOADING=1"
        assert before <= int(re.fullmatch(r"MONOTONIC_USEC=(\d+)", since)[1]) <= time.monotonic_ns() // 1000  # type: ignore[index]
        ready = manager.wait_for("READY=1")
        assert ready == ["READY=1", "STATUS=serving calc 1.0.0, 2 of 2 workers ready"]
        program.wait_for("exchanged 2 workers")
        program.terminate()
        assert manager.wait_for("STOPPING=1") == ["STOPPING=1", "STATUS=draining"]
        assert program.wait() == 0, program.output


def test_workers_that_are_given_up_end_it(server: NatsServer, tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    environment = {"NOTIFY_SOCKET": manager.address}
    with serving(tmp_path, "nothing", "--workers", "2", url=server.url, environment=environment) as program:
        assert program.wait() == 1
    messages = manager.take()
    manager.close()
    assert ["STOPPING=1", "STATUS=draining"] in messages
    assert not [each for each in messages if "READY=1" in each]


# The socket


def test_without_a_socket_nothing_is_asked_and_nothing_sent() -> None:
    systemd = Systemd({"WATCHDOG_USEC": "1"}, lambda: pytest.fail("nobody wants to know"))
    systemd.ready()
    systemd.stopping()


async def test_without_a_socket_there_is_no_task() -> None:
    async with bounded():
        await Systemd({}, lambda: "").run()


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
    ],
)
def test_which_process_systemd_wants_signs_of_life_from(variables: dict[str, str], seconds: float | None) -> None:
    assert Systemd(variables, str)._watchdog_seconds == seconds


def test_a_sign_of_life_each_half_of_the_time(tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    systemd = Systemd({"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "20000000"}, lambda: "serving")

    async def run() -> None:
        with anyio.move_on_after(35):
            await systemd.run()

    assert in_virtual_time(run) == 35
    messages = manager.take()
    manager.close()
    assert sum(each.count("WATCHDOG=1") for each in messages) == 4  # at 0, 10, 20 and 30 seconds
    assert sum(each.count("STATUS=serving") for each in messages) == 1


def test_what_cannot_be_told_is_said_once_and_told_again_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "notify")
    systemd = Systemd({"NOTIFY_SOCKET": path}, lambda: "serving\nREADY=1")
    systemd.ready()
    systemd.ready()
    assert capsys.readouterr().err.count(f"cannot tell systemd anything at {path}: ") == 1
    manager = Manager(path)
    systemd.stopping()
    assert manager.take() == [["STOPPING=1", "STATUS=serving\\nREADY=1"]]
    manager.close()


def test_an_address_that_is_none_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    Systemd({"NOTIFY_SOCKET": "notify"}, str).ready()
    text = "systemd is not told anything: NOTIFY_SOCKET must begin with / or @; got 'notify'\n"
    assert capsys.readouterr().err == text


def test_others_do_not_get_the_variables() -> None:
    assert without_variables({"NOTIFY_SOCKET": "/a", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "2", "A": "B"}) == {"A": "B"}
