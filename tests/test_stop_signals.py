"""`serve(stop_on_signals=True)`: SIGINT and SIGTERM drain, a second one cuts off, a third one is no longer held back."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

import natsery
from natsery.testing import MemoryBroker

from .bounds import bounded
from .calc_service import config, error_of
from .processes import Program, running
from .server import NatsServer

pytestmark = pytest.mark.anyio

LOOPS = {
    "trio": "import trio; trio.run(main)",
    "asyncio": "import asyncio; asyncio.run(main())",
    "uvloop": "import uvloop; uvloop.run(main())",
}
SIGNALS = [signal.SIGINT, signal.SIGTERM]

PROGRAM = """
import sys

import anyio
import natsery


@natsery.endpoint
async def work(request: natsery.Request) -> bytes:
    async with request.connection.subscribe("go") as messages:
        print("accepted", flush=True)
        try:
            await anext(messages)
        except anyio.get_cancelled_exc_class():
            print("cut off", flush=True)
            if request.data == b"stubborn":
                with anyio.CancelScope(shield=True):
                    await anyio.sleep_forever()
            raise
    return b"done"


config = natsery.ServiceConfig("worker", "1.0.0", endpoints=[work])


async def main() -> None:
    async with natsery.connect(sys.argv[1]) as nc:
        async with natsery.serve(nc, config, grace=3600, stop_on_signals=True) as service:
            print("ready", flush=True)
            try:
                await service.wait_stopped()
            finally:
                print("stopping", flush=True)
        print("ended", flush=True)


"""


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=[name for name in LOOPS if name != "uvloop" or sys.platform != "win32"])
def start(request: pytest.FixtureRequest, tmp_path: Path, nats_server: NatsServer) -> Callable[..., object]:
    """Starts the program on one of the event loops."""
    (tmp_path / "program.py").write_text(PROGRAM + LOOPS[request.param])
    return partial(running, "program.py", nats_server.url, cwd=tmp_path, environment={"PYTHONWARNINGS": "error"})


one_client = pytest.mark.parametrize("anyio_backend", ["trio"], indirect=True)


async def wait_for(program: Program, text: str) -> None:
    await anyio.to_thread.run_sync(program.wait_for, text)


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
def test_a_program_without_work_ends(
    start: Callable[..., object], number: signal.Signals, nats_server: NatsServer
) -> None:
    with start() as program:
        program.wait_for("ready")
        program.send(number)
        assert program.wait() == 0, program.output
    assert program.output == "ready\nstopping\nended\n"
    assert not [subject for subject in nats_server.subscriptions() if "work" in subject]


@pytest.mark.slow
@one_client
@pytest.mark.parametrize("number", SIGNALS)
async def test_what_is_accepted_is_answered(
    start: Callable[..., object], number: signal.Signals, nats_server: NatsServer
) -> None:
    replies = []

    async def ask() -> None:
        replies.append((await nc.request("work")).data)

    with start() as program:
        await wait_for(program, "ready")
        async with bounded(), natsery.connect(nats_server.url) as nc, anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await wait_for(program, "accepted")
            program.send(number)
            await wait_for(program, "stopping")
            await nc.publish("go")
        assert await anyio.to_thread.run_sync(program.wait) == 0, program.output
    assert replies == [b"done"]
    assert program.output == "ready\naccepted\nstopping\nended\n"


@pytest.mark.slow
@one_client
@pytest.mark.parametrize("numbers", [SIGNALS, SIGNALS[::-1]])
async def test_the_second_signal_cuts_off(
    start: Callable[..., object], numbers: list[signal.Signals], nats_server: NatsServer
) -> None:
    replies = []

    async def ask() -> None:
        replies.append(error_of(await nc.request("work")))

    with start() as program:
        await wait_for(program, "ready")
        async with bounded(), natsery.connect(nats_server.url) as nc, anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await wait_for(program, "accepted")
            for number, answer in zip(numbers, ("stopping", "cut off"), strict=True):
                program.send(number)
                await wait_for(program, answer)
        assert await anyio.to_thread.run_sync(program.wait) == 0, program.output
    assert replies == ["503:Service Stopping"]
    assert program.output == "ready\naccepted\nstopping\ncut off\nended\n"


@pytest.mark.slow
@one_client
async def test_the_third_signal_ends_a_program_that_hangs(
    start: Callable[..., object], nats_server: NatsServer
) -> None:
    with start() as program:
        await wait_for(program, "ready")
        async with bounded(), natsery.connect(nats_server.url) as nc:
            await nc.publish("work", b"stubborn", reply="nobody")
            await nc.flush()
        for expected in ("accepted", "stopping", "cut off"):
            await wait_for(program, expected)
            program.terminate()
        assert await anyio.to_thread.run_sync(program.wait) == -signal.SIGTERM, program.output


async def test_services_stop_together_and_the_handlers_of_before_are_back() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    entered = anyio.Event()

    async def wait(request: natsery.Request) -> None:
        entered.set()
        await anyio.sleep_forever()

    async def serve(*, task_status: anyio.abc.TaskStatus[natsery.Service]) -> None:
        await natsery.serve_forever(nc, config(wait), grace=3600, stop_on_signals=True, task_status=task_status)

    async with bounded(), MemoryBroker() as broker, broker.connect() as nc, anyio.create_task_group() as tasks:
        services = [await tasks.start(serve) for _ in range(2)]
        await nc.publish("wait", reply="nobody")
        await entered.wait()
        idle, busy = sorted(services, key=lambda service: service.pending)
        signal.raise_signal(signal.SIGTERM)
        await idle.wait_stopped()
        assert busy.pending == 1
        signal.raise_signal(signal.SIGTERM)
        await busy.wait_stopped()
    assert [signal.getsignal(number) for number in SIGNALS] == before
    assert busy.stats().endpoints[0].failures == {"stopping": 1}


async def test_a_service_ends_without_a_signal() -> None:
    before = signal.getsignal(signal.SIGTERM)
    async with bounded(), MemoryBroker() as broker, broker.connect() as nc:
        for _ in range(2):
            async with natsery.serve(nc, config(), stop_on_signals=True):
                assert signal.getsignal(signal.SIGTERM) != before
            assert signal.getsignal(signal.SIGTERM) == before


async def test_a_handler_that_the_program_sets_meanwhile_stays() -> None:
    def theirs(*_: object) -> None: ...

    before = signal.getsignal(signal.SIGTERM)
    try:
        async with bounded(), MemoryBroker() as broker, broker.connect() as nc:
            async with natsery.serve(nc, config(), stop_on_signals=True):
                signal.signal(signal.SIGTERM, theirs)
        assert signal.getsignal(signal.SIGTERM) is theirs
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        async with bounded(), MemoryBroker() as broker, broker.connect() as nc:
            async with natsery.serve(nc, config(), stop_on_signals=True):
                assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


async def test_it_is_refused_in_another_thread(anyio_backend: str) -> None:
    async def main() -> None:
        async with MemoryBroker() as broker, broker.connect() as nc:
            with pytest.raises(
                RuntimeError, match=r"stop_on_signals=True: .* in the main thread only, and this is '.+'"
            ):
                await natsery.serve_forever(nc, config(), stop_on_signals=True)
            async with natsery.serve(nc, config()):
                pass  # nothing is left of the first one

    async with bounded():
        await anyio.to_thread.run_sync(partial(anyio.run, main, backend=anyio_backend))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("loop", ["trio", "asyncio"])
def test_a_forked_process_ends_when_it_is_told_to(loop: str, tmp_path: Path) -> None:
    """`multiprocessing` waits for a process that it has terminated."""
    (tmp_path / "program.py").write_text(
        f"""
import os, signal
import natsery
from natsery.testing import MemoryBroker

async def main() -> None:
    async with MemoryBroker() as broker, broker.connect() as nc:
        config = natsery.ServiceConfig("calc", "1.0.0")
        async with natsery.serve(nc, config, stop_on_signals=True):
            child = os.fork()
            if child == 0:
                signal.raise_signal(signal.SIGTERM)
                os._exit(1)
            print("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

{LOOPS[loop]}
"""
    )
    with running("program.py", cwd=tmp_path) as program:
        assert program.wait() == 0, program.output
    assert program.output == f"child {-signal.SIGTERM}\n"
