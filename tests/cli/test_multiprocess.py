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

from ..bounds import bounded

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
os._exit(0)  # whatever a thread of it is about
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
    for module in ("_multiprocess", "_progress", "_worker_process"):
        monkeypatch.setattr(
            f"natsery._cli._run.{module}.print_status",
            lambda text: lines.append(re.sub(r"process \d+(.*) on \S+$", r"process N\1", text)),
        )
    return lines


def crew(program: str, *, size: int = 1, is_numbered: bool = True, grace: float = 60) -> WorkerProcesses:
    return WorkerProcesses(
        [sys.executable, "-S", "-c", program], dict(os.environ), size=size, is_numbered=is_numbered, grace=grace
    )


async def until(said: list[str], line: str) -> None:
    while line not in said:
        await anyio.sleep(0.005)


async def test_they_start_behind_the_first_and_end_together(said: list[str]) -> None:
    workers = crew(SERVE, size=3)
    async with bounded(), anyio.create_task_group() as tasks:
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
    async with bounded(), anyio.create_task_group() as tasks:
        tasks.start_soon(workers.run)
        await until(said, "ready here")
        workers.stop()
    assert said[0] == "ready here"
    assert said[-1] == "the worker ended with status 0: 0 drained"


async def test_one_that_is_killed_is_replaced(said: list[str]) -> None:
    workers = crew(SERVE, size=2)
    async with bounded(), anyio.create_task_group() as tasks:
        tasks.start_soon(workers.run)
        await until(said, "2 workers ready here")
        del said[:]
        os.kill(workers._workers[2].pid, signal.SIGKILL)
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
    async with bounded():
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
    async with bounded():
        await workers.run()
    assert said == ["worker 1 ended with status 2 and is given up: the service cannot be served as it is"]
    assert workers.given_up


async def test_a_stop_ends_the_pause_before_a_restart(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_restarts, "FIRST_PAUSE", 3600)
    monkeypatch.setattr(_restarts, "LONGEST_PAUSE", 3600)
    workers = crew("raise SystemExit(1)")
    async with bounded(), anyio.create_task_group() as tasks:
        tasks.start_soon(workers.run)
        await until(said, "worker 1 ended with status 1; it starts again in 3600 s")
        workers.stop()
    assert workers.is_clean


async def test_one_that_is_still_starting_is_ended(said: list[str]) -> None:
    workers = crew("import os, time\nopen(os.environ['STARTING'], 'w').close()\ntime.sleep(60)")
    async with bounded(), anyio.create_task_group() as tasks:
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
    async with bounded(), anyio.create_task_group() as tasks:
        tasks.start_soon(workers.run)
        await until(said, "1 worker ready here")
        del said[:]
        workers.stop()
    assert said == ["worker 1 does not end; it is killed", "worker 1 was ended by SIGKILL"]
    assert not workers.is_clean


async def test_to_cut_off_is_handed_on_and_shortens_the_patience(said: list[str]) -> None:
    workers = crew(SERVE.replace("tell(ready", "def stop(): tell(pending=5)\ntell(ready"))
    async with bounded(), anyio.create_task_group() as tasks:
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


# Exchanges


def exchanging(program: str = SERVE, *, size: int = 3, is_numbered: bool = True) -> tuple[WorkerProcesses, list[str]]:
    """Workers, and what they call."""
    calls: list[str] = []
    workers = WorkerProcesses(
        [sys.executable, "-S", "-c", program],
        dict(os.environ),
        size=size,
        is_numbered=is_numbered,
        grace=60,
        on_ready=lambda: calls.append("ready"),
        on_give_up=lambda: calls.append("given up"),
    )
    return workers, calls


def pids(workers: WorkerProcesses) -> list[int]:
    return [workers._workers[number].pid for number in sorted(workers._workers)]


async def test_they_are_exchanged_one_after_another_each_ready_before_the_old_one_drains(said: list[str]) -> None:
    workers, calls = exchanging()
    async with bounded(), anyio.create_task_group() as tasks:
        tasks.start_soon(workers.run)
        await until(said, "3 workers ready here")
        before = pids(workers)
        del said[:]
        workers.exchange()
        await until(said, "exchanged 3 workers")
        assert calls == ["ready", "ready"]
        assert not set(before) & set(pids(workers))
        assert said == [
            "exchanging 3 workers",
            *(
                line
                for number in (1, 2, 3)
                for line in (
                    f"worker {number} ready, process N",
                    f"the old worker {number} ended with status 0: {number} drained",
                )
            ),
            "exchanged 3 workers",
        ]
        workers.stop()
    assert workers.is_clean


async def test_exchanges_that_are_asked_for_meanwhile_are_one_more(said: list[str]) -> None:
    workers, calls = exchanging(size=2)
    async with bounded(), anyio.create_task_group() as tasks:
        tasks.start_soon(workers.run)
        await until(said, "2 workers ready here")
        del said[:]
        workers.exchange()
        await until(said, "the old worker 1 ended with status 0: 1 drained")
        for _ in range(5):
            workers.exchange()
        await until(said, "exchanged 2 workers")
        workers.stop()
    ready = [line for line in said if "ready" in line]
    assert ready.count("worker 1 ready, process N") == 2
    assert ready.count("worker 2 ready, process N") <= 2  # that of the second one may not have begun yet
    assert said.count("exchanged 2 workers") == 1
    assert calls == ["ready", "ready"]


async def test_a_new_one_that_does_not_come_up_leaves_the_old_one_in_place(
    said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken"
    program = f"import os\nif os.path.exists({str(broken)!r}): raise SystemExit(2)\n{SERVE}"
    workers, calls = exchanging(program, size=2)
    async with bounded(), anyio.create_task_group() as tasks:
        tasks.start_soon(workers.run)
        await until(said, "2 workers ready here")
        before = pids(workers)
        broken.touch()
        del said[:]
        workers.exchange()
        await until(said, "the new worker 1 ended with status 2; the old one stays, and the exchange ends")
        assert pids(workers) == before
        assert [each.ended.is_set() for each in workers._processes] == [False, False]
        broken.unlink()
        workers.exchange()
        await until(said, "exchanged 2 workers")
        workers.stop()
    assert calls == ["ready", "ready", "ready"]
    assert not workers.given_up
    assert workers.is_clean


async def test_a_new_one_that_takes_too_long_is_killed(
    said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_multiprocess, "START_SECONDS", 0.1)
    slow = tmp_path / "slow"
    program = f"import os, time\nif os.path.exists({str(slow)!r}): time.sleep(3600)\n{SERVE}"
    workers, _ = exchanging(program, size=1, is_numbered=False)
    async with bounded(), anyio.create_task_group() as tasks:
        tasks.start_soon(workers.run)
        await until(said, "ready here")
        slow.touch()
        del said[:]
        workers.exchange()
        await until(
            said, "the new worker was not ready within 0.1 s and is killed; the old one stays, and the exchange ends"
        )
        workers.stop()
    assert said[0] == "exchanging the worker"
    assert "the worker ended with status 0: 0 drained" in said  # the killed one may end after it


async def test_a_stop_during_an_exchange_ends_all(said: list[str], tmp_path: Path) -> None:
    """The new one is starting, and has not read its channel yet."""
    slow = tmp_path / "slow"
    starting = "open(os.environ['STARTING'], 'w').close(); time.sleep(3600)"
    program = f"import os, time\nif os.path.exists({str(slow)!r}): {starting}\n{SERVE}"
    workers, calls = exchanging(program, size=2)
    async with bounded(), anyio.create_task_group() as tasks:
        tasks.start_soon(workers.run)
        await until(said, "2 workers ready here")
        slow.touch()
        del said[:]
        workers.exchange()
        while not Path(os.environ["STARTING"]).exists():
            await anyio.sleep(0.005)
        workers.stop()
        workers.exchange()  # comes too late
    ends = [line for line in said if " ended " in line]
    assert sorted(ends) == [
        "the new worker 1 was ended by SIGTERM",
        "worker 1 ended with status 0: 1 drained",
        "worker 2 ended with status 0: 2 drained",
    ]
    assert calls == ["ready"]
    assert workers.is_clean


async def test_an_old_one_that_dies_while_the_new_one_starts_costs_nothing(said: list[str], tmp_path: Path) -> None:
    slow, go = tmp_path / "slow", tmp_path / "go"
    waiting = "open(os.environ['STARTING'], 'w').close()"
    program = (
        f"import os, time\nif os.path.exists({str(slow)!r}):\n    {waiting}\n"
        f"    while not os.path.exists({str(go)!r}): time.sleep(0.01)\n{SERVE}"
    )
    workers, _ = exchanging(program, size=1)
    async with bounded(), anyio.create_task_group() as tasks:
        tasks.start_soon(workers.run)
        await until(said, "1 worker ready here")
        old = workers._workers[1].pid
        slow.touch()
        workers.exchange()
        while not Path(os.environ["STARTING"]).exists():
            await anyio.sleep(0.005)
        os.kill(old, signal.SIGKILL)
        await until(said, "worker 1 was ended by SIGKILL; it starts again in 0.1 s")
        go.touch()
        await until(said, "exchanged 1 worker")
        assert len(workers._ready()) == 1
        workers.stop()
    assert workers.is_clean


async def test_one_that_says_that_it_is_outdated_is_exchanged_alone(said: list[str]) -> None:
    asking = """
if number == 2 and not os.path.exists(os.environ["STARTING"]):
    open(os.environ["STARTING"], "w").close()
    tell(outdated=1234)
    tell(outdated=2345)
for heard"""
    program = SERVE.replace("for heard", asking)
    workers, calls = exchanging(program, size=2)
    async with bounded(), anyio.create_task_group() as tasks:
        tasks.start_soon(workers.run)
        await until(said, "worker 2 has ended 1,234 requests and is exchanged")
        await until(said, "the old worker 2 ended with status 0: 2 drained")
        workers.stop()
    assert not [line for line in said if "old worker 1" in line]
    assert said.count("worker 2 ready, process N") == 2
    assert calls == ["ready"]


async def test_an_exchange_of_all_ends_although_single_ones_are_always_outdated(said: list[str]) -> None:
    """With many requests and a low limit, it never ended, and systemd was never told that it had."""
    asking = """
import threading
def ask():
    while True:
        tell(outdated=1)
        time.sleep(0.005)
threading.Thread(target=ask, daemon=True).start()
for heard"""
    # One that is told to end before it can be told on its line is sent SIGTERM, for which workers drain, too.
    ends = "signal.signal(signal.SIGTERM, lambda *_: os._exit(0))\ntell(ready"
    serve = SERVE.replace("tell(ready", ends).replace("for heard", asking)
    workers, calls = exchanging(serve, size=2)
    async with bounded(), anyio.create_task_group() as tasks:
        tasks.start_soon(workers.run)
        await until(said, "2 workers ready here")
        workers.exchange()
        await until(said, "exchanged 2 workers")
        workers.stop()
    assert calls == ["ready", "ready"]
    assert workers.is_clean, said


async def test_a_process_that_cannot_be_started_is_a_crash(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_restarts, "FIRST_PAUSE", 0.001)
    workers = WorkerProcesses(["/nowhere"], {}, size=1, is_numbered=True, grace=1)
    async with bounded():
        await workers.run()
    assert said[0].startswith("cannot start a process: ")
    assert workers.given_up


async def test_workers_of_a_supervisor_that_fails_are_told_and_awaited(said: list[str]) -> None:
    workers = crew(SERVE)
    async with bounded(), anyio.create_task_group() as tasks:
        tasks.start_soon(workers.run)
        await until(said, "1 worker ready here")
        pid = workers._workers[1].pid
        tasks.cancel_scope.cancel()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_what_is_no_news_on_the_line_is_passed_over() -> None:
    one, other = socket.socketpair()
    heard: list[object] = []
    async with bounded():
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
