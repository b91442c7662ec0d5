"""The harness of the soak: what it counts, what it says of a run that fails, and that every scenario runs."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

import natsery

from ..bounds import HANG_SECONDS
from ..processes import running
from ..server import NatsServer
from . import generated, harness
from .harness import Bench, Run, repeat
from .scenarios import SCENARIOS
from .table import HEADINGS, as_markdown, failures
from .tally import Tally

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


async def soak(run: Callable[[Bench, random.Random], Awaitable[None]], server: NatsServer, *, runs: int = 3) -> Tally:
    """Repeat a scenario of one function."""

    @asynccontextmanager
    async def scenario(bench: Bench) -> AsyncIterator[Run]:
        yield lambda chance: run(bench, chance)

    tally = Tally("trio-python", "mine")
    await repeat(scenario, server, tally, lambda tally: None, seconds=1, runs=runs, first_seed=5)
    return tally


@pytest.mark.parametrize("name", SCENARIOS)
async def test_a_scenario_loses_nothing(name: str, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("LOST_SECONDS", "RUN_SECONDS", "CLEANUP_SECONDS"):  # for a busy machine
        monkeypatch.setattr(harness, limit, HANG_SECONDS)
    tally = Tally("", name)
    await repeat(SCENARIOS[name], nats_server, tally, lambda tally: None, seconds=1, runs=1, first_seed=1)
    assert (tally.runs, tally.lost, tally.hung, tally.failures) == (1, 0, 0, [])
    assert tally.requests
    assert (tally.left.tasks, tally.left.pending) == (0, 0)


async def test_a_request_that_nobody_answers_is_lost(nats_server: NatsServer) -> None:
    async def run(bench: Bench, chance: random.Random) -> None:
        async with natsery.connect(bench.url) as nc, nc.subscribe("silent"):
            assert await bench.ask(nc, "silent", seconds=0) is None
            assert await bench.ask(nc, "silent", seconds=0, may_be_cut_off=True) is None

    tally = await soak(run, nats_server)
    assert (tally.requests, tally.lost, tally.cut_off, tally.failed) == (6, 3, 3, 0)
    assert not tally.is_good


async def test_a_run_that_fails_can_be_repeated_from_its_seed(nats_server: NatsServer) -> None:
    drawn: list[float] = []

    async def run(bench: Bench, chance: random.Random) -> None:
        drawn.append(chance.random())
        assert len(drawn) != 2, "the second run"

    tally = await soak(run, nats_server)
    assert (tally.runs, tally.failed, tally.hung) == (3, 1, 0)
    assert drawn == [random.Random(seed).random() for seed in (5, 6, 7)]
    text = failures([tally])
    assert text.startswith("python -m tests.soak --form trio-python --scenario mine --seed 6 --runs 1\n")
    assert "the second run" in text


async def test_a_run_that_does_not_end_is_hung(nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "RUN_SECONDS", 0)

    async def run(bench: Bench, chance: random.Random) -> None:
        await anyio.sleep_forever()

    tally = await soak(run, nats_server)
    assert (tally.runs, tally.failed, tally.hung) == (3, 0, 3)


async def test_what_is_left_over_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "CLEANUP_SECONDS", 0.1)
    with NatsServer() as server:
        async with anyio.create_task_group() as tasks:

            async def keep(*, task_status: anyio.abc.TaskStatus[None]) -> None:
                async with natsery.connect(server.url):
                    task_status.started()
                    await anyio.sleep_forever()

            async def run(bench: Bench, chance: random.Random) -> None:
                await tasks.start(keep)

            tally = await soak(run, server, runs=2)
            tasks.cancel_scope.cancel()
    assert tally.left.connections == 2
    assert tally.left.tasks >= 2
    assert tally.left.files is None or tally.left.files >= 2
    assert not tally.is_good


def test_each_scenario_is_described() -> None:
    page = (Path(__file__).parents[2] / "docs" / "proof.md").read_text(encoding="utf-8")
    scenarios = page.partition("## The scenarios")[2].partition("## The columns")[0]
    assert [name for name in SCENARIOS if f"`{name}`" not in scenarios] == []


def test_a_table_has_a_column_for_each_figure() -> None:
    heading, rule, row = as_markdown([Tally("trio-python", "mine", runs=1_000)]).splitlines()
    assert heading.count("|") == rule.count("|") == row.count("|") == len(HEADINGS) + 1
    assert "| mine | 0 | 1,000 |" in row


def test_the_program_prints_a_table_when_it_is_interrupted(tmp_path: Path) -> None:
    report = tmp_path / "table.json"
    form = f"trio-{natsery.CORE}"
    options = ("--form", form, "--scenario", "ageing", "--minutes", "60", "--json", str(report))
    with running("-m", "tests.soak", *options, cwd=Path(__file__).parents[2]) as program:
        program.wait_for(f"{form} ageing: ")
        program.interrupt()
        assert program.wait() == 0, program.output
    assert f"| {form} | ageing | " in program.output
    (tally,) = json.loads(report.read_text())["tallies"]
    assert tally["runs"] > 0
    assert tally["left"] is None


@pytest.mark.parametrize("file", generated.FILES)
def test_a_file_of_generated_examples_has_some(file: str) -> None:
    text = (generated.ROOT / file).read_text(encoding="utf-8")
    assert "@given(" in text or "RuleBasedStateMachine" in text


def test_a_file_that_fails_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert not generated._run("tests/test_nothing.py", 0)
    assert "tests/test_nothing.py: " in (shown := capsys.readouterr().err)
    assert "0 s left, failed:\n" in shown
