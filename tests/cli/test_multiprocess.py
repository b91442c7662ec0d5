"""Workers in processes, played by small programs that do what a worker may do."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
from pathlib import Path

import anyio
import pytest

from natsery._cli._run import _multiprocess, _restarts
from natsery._cli._run._channel import Channel
from natsery._cli._run._multiprocess import WorkerProcesses
from natsery._cli._run._systemd import Notifier

from ..test_serve import bounded

pytestmark = pytest.mark.anyio

START = """
import json, os, signal, socket, sys, time
number = int(sys.argv[1])
line = socket.socket(fileno=0)
def tell(**facts): line.sendall(json.dumps(facts).encode() + b"\\n")
def stop():
    tell(pending=number)
    tell(stopped=f"{number} drained")
    os._exit(0)
def cut_off(how): os._exit(128 + how)
"""

SERVE = f"""{START}
tell(ready="here")
for heard in map(json.loads, line.makefile()):
    if "stop" in heard: stop()
    if "cut_off" in heard: cut_off(heard["cut_off"])
"""
"""A worker that does what it is told, and ends when the supervisor is gone."""


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STARTING", str(tmp_path / "starting"))


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was printed, with processes' numbers taken out."""
    lines: list[str] = []
    for module in ("_multiprocess", "_progress"):
        monkeypatch.setattr(
            f"natsery._cli._run.{module}.print_status",
            lambda text: lines.append(re.sub(r"process \d+ on \S+", "process N", text)),
        )
    return lines


def crew(program: str, *, size: int = 1, is_numbered: bool = True, grace: float = 60) -> WorkerProcesses:
    return WorkerProcesses(
        [sys.executable, "-S", "-c", program],
        dict(os.environ),
        size=size,
        is_numbered=is_numbered,
        grace=grace,
        notifier=Notifier(),
    )


async def until(said: list[str], line: str) -> None:
    while line not in said:
        await anyio.sleep(0.005)


async def test_they_start_behind_the_first_and_end_together(said: list[str]) -> None:
    workers = crew(SERVE, size=3)
    async with bounded(60), anyio.create_task_group() as tasks:
        tasks.start_soon(workers.run)
        await until(said, "3 workers ready here")
        assert said[0] == "worker 1 ready, process N"
        assert sorted(said[:-1]) == [f"worker {number} ready, process N" for number in (1, 2, 3)]
        del said[:]
        workers.stop()
        workers.stop()
    ends = [line for line in said if not line.startswith("draining: ")]
    assert sorted(ends) == [f"worker {number} ended with status 0: {number} drained" for number in (1, 2, 3)]
    assert workers.is_clean
    assert not workers.given_up


async def test_one_that_nobody_has_to_tell_from_others_has_no_number(said: list[str]) -> None:
    workers = crew(SERVE, is_numbered=False)
    async with bounded(60), anyio.create_task_group() as tasks:
        tasks.start_soon(workers.run)
        await until(said, "ready here")
        workers.stop()
    assert said[0] == "ready here"
    assert said[-1] == "the worker ended with status 0: 0 drained"


async def test_one_that_is_killed_is_replaced(said: list[str]) -> None:
    workers = crew(SERVE, size=2)
    async with bounded(60), anyio.create_task_group() as tasks:
        tasks.start_soon(workers.run)
        await until(said, "2 workers ready here")
        del said[:]
        os.kill(workers._workers[1].process.pid, signal.SIGKILL)
        await until(said, "worker 2 ready, process N")
        assert said == [
            "worker 2 was ended by SIGKILL; it starts again in 0.1 s",
            "worker 2 ready, process N",
        ]
        workers.stop()
    assert said.count("2 workers ready here") == 0
    assert workers.is_clean


async def test_a_crash_loop_is_given_up_and_the_others_drain(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_restarts, "FIRST_PAUSE", 0.001)
    workers = crew(SERVE.replace("for heard", "if number == 2: os._exit(7)\nfor heard"), size=2)
    async with bounded(60):
        await workers.run()
    reason = "it ended 5 times in a row without having served for 5 s"
    assert [line for line in said if line.startswith("worker 2 ended")] == [
        *(
            f"worker 2 ended with status 7; it starts again in {pause} s"
            for pause in ("0.001", "0.002", "0.004", "0.008")
        ),
        f"worker 2 ended with status 7 and is given up: {reason}",
    ]
    assert said[-1] == "worker 1 ended with status 0: 1 drained"
    assert workers.given_up
    assert workers.is_clean


async def test_what_cannot_be_served_is_tried_once(said: list[str]) -> None:
    workers = crew("raise SystemExit(2)", size=4)
    async with bounded(60):
        await workers.run()
    assert said == ["worker 1 ended with status 2 and is given up: the service cannot be served as it is"]
    assert workers.given_up


async def test_a_stop_ends_the_pause_before_a_restart(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_restarts, "FIRST_PAUSE", 3600)
    monkeypatch.setattr(_restarts, "LONGEST_PAUSE", 3600)
    workers = crew("raise SystemExit(1)")
    async with bounded(60), anyio.create_task_group() as tasks:
        tasks.start_soon(workers.run)
        await until(said, "worker 1 ended with status 1; it starts again in 3600 s")
        workers.stop()
    assert workers.is_clean


async def test_one_that_is_still_starting_is_ended(said: list[str]) -> None:
    workers = crew("import os, time\nopen(os.environ['STARTING'], 'w').close()\ntime.sleep(60)")
    async with bounded(60), anyio.create_task_group() as tasks:
        tasks.start_soon(workers.run)
        while not Path(os.environ["STARTING"]).exists():
            await anyio.sleep(0.005)
        workers.stop()
    assert said == ["worker 1 was ended by SIGTERM"]
    assert workers.is_clean


async def test_one_that_does_not_end_is_killed_and_that_is_not_clean(
    said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_multiprocess, "KILL_SECONDS", 0.1)
    workers = crew(SERVE.replace("tell(ready", "def stop(): pass\ntell(ready"), grace=0)
    async with bounded(60), anyio.create_task_group() as tasks:
        tasks.start_soon(workers.run)
        await until(said, "1 worker ready here")
        del said[:]
        workers.stop()
    assert said == ["worker 1 does not end; it is killed", "worker 1 was ended by SIGKILL"]
    assert not workers.is_clean


async def test_to_cut_off_is_handed_on_and_shortens_the_patience(said: list[str]) -> None:
    workers = crew(SERVE.replace("tell(ready", "def stop(): tell(pending=5)\ntell(ready"))
    async with bounded(60), anyio.create_task_group() as tasks:
        tasks.start_soon(workers.run)
        await until(said, "1 worker ready here")
        del said[:]
        workers.stop()
        await until(said, "draining: 5 requests in flight, 60 s left")
        assert workers._kill_scope.deadline > anyio.current_time() + 60
        workers.cut_off(signal.SIGINT)
        assert workers._kill_scope.deadline <= anyio.current_time() + 10
    assert said[1:] == ["cutting off 5 requests", "worker 1 ended with status 130"]
    assert not workers.is_clean


async def test_workers_of_a_supervisor_that_fails_are_told_and_awaited(said: list[str]) -> None:
    workers = crew(SERVE)
    async with bounded(60), anyio.create_task_group() as tasks:
        tasks.start_soon(workers.run)
        await until(said, "1 worker ready here")
        pid = workers._workers[0].process.pid
        tasks.cancel_scope.cancel()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_what_is_no_news_on_the_line_is_passed_over() -> None:
    one, other = socket.socketpair()
    heard: list[object] = []
    async with bounded(60):
        with other:
            other.sendall(b'{"a": 1}\n[]\nnonsense\n\xff\n{"b"')
            channel = Channel(one)
            assert channel.receive_available(heard.append)
            other.sendall(b": 2}\n")
        await channel.receive(heard.append)
        channel.send(late=True)  # to nobody
    channel.close()
    assert heard == [{"a": 1}, {"b": 2}]
    assert not channel.receive_available(heard.append)
