"""Every Python block of every document runs, in the order of its page: the default for pages, besides tests of their own.

A block is run where the blocks before it were. Modules that it imports and that are not installed hold what the page has
defined so far. Services that it configures are then served in memory, and its functions of a connection are called. A block
that runs an event loop is run as a program, with a server.
"""

from __future__ import annotations

import asyncio
import inspect
import signal
import sys
from collections import Counter
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest

import natsery
from natsery.testing import MemoryBroker, NatsServer

from .calc_service import ping
from .pages import PAGES, README, Block, blocks_of
from .processes import running
from .virtual_time import trio_options

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
RUN = [block for block in BLOCKS if block.why_not_run is None]
PROGRAMS = [block for block in RUN if block.is_program]

SECONDS = 600
"""Of virtual time, which a function that waits for ever gets."""


@cache
def installed() -> set[str]:
    """What any program can import; not what other tests have put into ``sys.modules`` or on ``sys.path``."""
    return {*sys.stdlib_module_names, *packages_distributions()}


def is_installed(module: str) -> bool:
    return module.partition(".")[0] in installed()


def is_called_with_a_connection(value: object, module: ModuleType) -> bool:
    if not inspect.iscoroutinefunction(value) or value.__module__ != module.__name__:
        return False
    (*parameters,) = inspect.signature(value).parameters.values()
    return [str(each.annotation) for each in parameters] in (["natsery.abc.Connection"], ["natsery.NativeConnection"])


async def use(configs: list[natsery.ServiceConfig], functions: list[Any]) -> None:
    """Serve the services, and call the functions."""
    async with MemoryBroker() as broker, anyio.create_task_group() as tasks:
        for config in configs:
            await tasks.start(serve_in_memory, broker, config)
        for function in functions:
            async with broker.connect() as nc:
                with anyio.move_on_after(SECONDS):
                    await function(nc)
        tasks.cancel_scope.cancel()


async def serve_in_memory(broker: MemoryBroker, config: natsery.ServiceConfig, *, task_status: Any) -> None:
    async with broker.connect() as nc:
        await natsery.serve_forever(nc, config, task_status=task_status)


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_is_python(block: Block) -> None:
    block.compile()


@pytest.mark.usefixtures("own_metrics")
@pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page)], ids=lambda page: page.stem)
def test_the_blocks_of_a_page_run(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType(f"page_{page.stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    configs: dict[str, natsery.ServiceConfig] = {}
    for block in blocks_of(page):
        if not block.can_be_imported:
            continue
        for missing in block.imported:
            if not is_installed(missing):
                monkeypatch.setitem(sys.modules, missing, module)
        before = dict(vars(module))
        exec(block.compile(), vars(module))
        new = [value for name, value in vars(module).items() if before.get(name) is not value]
        configs |= {value.name: value for value in new if isinstance(value, natsery.ServiceConfig)}
        functions = [value for value in new if is_called_with_a_connection(value, module)]
        anyio.run(use, list(configs.values()), functions, backend="trio", backend_options=trio_options())


def write_modules(program: Block, folder: Path) -> None:
    """Write what a program imports and is not installed: what its page, or else the README, has defined before."""
    readme = [block.text for block in blocks_of(README) if block.can_be_imported]
    before: list[str] = []
    for block in blocks_of(program.page):
        for missing in block.imported:
            path = folder / f"{missing}.py"
            if not is_installed(missing) and not path.exists():
                path.write_text("\n".join(before or readme))
        if block == program:
            return
        if block.can_be_imported:
            before.append(block.text)


@pytest.mark.parametrize("block", PROGRAMS, ids=str)
def test_a_program_runs(block: Block, nats_server: NatsServer, tmp_path: Path) -> None:
    url = nats_server.url
    write_modules(block, tmp_path)
    (tmp_path / "program.py").write_text(block.text.replace("nats://127.0.0.1:4222", url))
    with running("program.py", cwd=tmp_path, environment={"NATS_URL": url}) as program:
        while program.is_running and not asyncio.run(ping(url)):
            pass
        program.terminate()
        drains = "stop_on_signals=True" in block.text
        assert program.wait() in ({0} if drains else {0, -signal.SIGTERM}), program.output
        assert "Traceback" not in program.output


def test_what_is_not_run_has_its_reason() -> None:
    assert Counter(block.why_not_run for block in BLOCKS if block.why_not_run) == {
        "FastStream is not installed for the tests": 1,
        "gRPC is not installed for the tests": 2,
        "nats-micro is not installed for the tests": 2,
    }
