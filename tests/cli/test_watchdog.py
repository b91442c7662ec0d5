"""Event loops that stand still: seen, described, and their processes ended."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

import natsery
from natsery._cli._run import _watchdog
from natsery._cli._run._watchdog import TICKS, Watchdog
from natsery.testing import MemoryBroker

from ..bounds import bounded
from ..server import NatsServer
from .programs import MODULE, asking, serving

pytestmark = pytest.mark.anyio

BLOCKING = MODULE.replace(
    "async def leave",
    """
async def block(request):
    stand_still(request.data)


def stand_still(how):
    import time
    while how == b"busy": pass
    time.sleep(3600)


async def leave""",
).replace("[echo, hold]", "[echo, hold, block]")


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def server() -> Iterator[NatsServer]:
    """A server of this module's own, so that nobody else serves there."""
    with NatsServer() as server:
        yield server


class Ticks:
    """In place of the event that the thread waits for: each wait is one tick, however long it takes."""

    def __init__(self, watchdog: Watchdog, moves: list[bool]) -> None:
        self._watchdog = watchdog
        self._moves = moves
        watchdog._ended = self  # type: ignore[assignment]

    def wait(self, seconds: float) -> bool:
        assert seconds == 0.1
        if not self._moves:
            return True
        self._watchdog._count += self._moves.pop(0)
        return False


@pytest.mark.parametrize(
    ("moves", "is_hung"),
    [
        ([False] * (TICKS - 1), False),
        ([False] * TICKS, True),
        ([*[False] * (TICKS - 1), True] * 3, False),
        ([True, *[False] * TICKS], True),
    ],
)
def test_only_ticks_in_a_row_count(moves: list[bool], is_hung: bool) -> None:
    """A process that was suspended for an hour has missed one of them."""
    said: list[str] = []
    watchdog = Watchdog(1, said.append)
    Ticks(watchdog, moves)
    watchdog._watch(threading.get_ident())
    assert bool(said) is is_hung


async def test_it_names_the_endpoint_and_shows_the_program_s_frames_alone() -> None:
    said: list[str] = []

    async def deep(request: natsery.Request) -> bytes:
        other = request.endpoint  # noqa: F841  # a frame of the program may hold any
        said.append(_watchdog.describe(sys._getframe()))
        return b""

    def middleware(request: natsery.Request, handler: natsery.Handler):
        return handler(request)

    config = natsery.ServiceConfig(
        "calc", "1.0.0", endpoints=[natsery.endpoint(deep, middlewares=[middleware], timeout=60)]
    )
    async with bounded(), MemoryBroker() as broker, broker.connect() as nc, natsery.serve(nc, config):
        await nc.request("deep", b"")
    first, *rest = said[0].splitlines()
    assert first == " in endpoint 'deep' (deep):"
    assert [line for line in rest if "File" in line] == [
        f'  File "{__file__}", line {deep.__code__.co_firstlineno + 2}, in deep'
    ]


def test_what_is_no_handler_is_described_without_an_endpoint() -> None:
    text = _watchdog.describe(sys._getframe())
    assert text.startswith(":\n  File ")
    assert "test_what_is_no_handler" in text
    assert _watchdog.describe(None) == ":\n"


async def test_a_loop_that_moves_is_left_alone_and_the_thread_ends_with_the_task() -> None:
    said: list[str] = []
    watchdog = Watchdog(3600, said.append)
    async with bounded(), anyio.create_task_group() as tasks:
        tasks.start_soon(watchdog.run)
        await anyio.wait_all_tasks_blocked()
        (thread,) = [each for each in threading.enumerate() if each.name == "natsery watchdog"]
        tasks.cancel_scope.cancel()
    thread.join(60)
    assert not thread.is_alive()
    assert said == []


def test_a_worker_that_stands_still_is_replaced(server: NatsServer, tmp_path: Path) -> None:
    with serving(tmp_path, "--workers", "2", "--watchdog", "1", url=server.url, text=BLOCKING) as program:
        program.wait_for("2 workers ready")
        with asking(server.url) as asker:
            asker.begin("math.block", b"busy")
            program.wait_for(": the event loop has stood still for 1 s in endpoint 'block' (math.block):\n")
            program.wait_for('while how == b"busy": pass\n')
            program.wait_for(" was ended by SIGKILL; it starts again in 0.1 s")
            program.wait_for("ready, process")
            assert {asker.ask("math.echo", b"hello") for _ in range(50)} == {"hello"}
        program.terminate()
        assert program.wait() == 0, program.output
    assert not [line for line in program.output.splitlines() if "File" in line and "service.py" not in line]


@pytest.mark.parametrize("options", [(), ("--uvloop",)], ids=["trio", "uvloop"])
def test_a_process_alone_that_stands_still_ends(server: NatsServer, tmp_path: Path, options: tuple[str, ...]) -> None:
    with serving(tmp_path, "--watchdog", "0.5", *options, url=server.url, text=BLOCKING) as program:
        program.wait_for("ready")
        with asking(server.url) as asker:
            asker.begin("math.block")
            program.wait_for("the event loop has stood still for 0.5 s in endpoint 'block' (math.block):\n")
            assert program.wait() == 1
    assert program.output.endswith("    time.sleep(3600)\n")


def test_a_process_ends_even_if_nobody_reads_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    statuses: list[int] = []
    monkeypatch.setattr(_watchdog, "LAST_WORD_SECONDS", 0.01)
    monkeypatch.setattr(_watchdog.os, "_exit", statuses.append)
    reader = threading.Event()
    _watchdog.end_process(reader.wait)
    assert statuses == [1]
    reader.set()
