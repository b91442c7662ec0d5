"""Every block of docs/deadlines.md and docs/outcomes.md runs, and does what the page says of it."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import anyio
import pytest

import natsery
from natsery.testing import MemoryBroker

from .bounds import bounded
from .calc_service import error_of
from .pages import functions_of
from .virtual_time import VIRTUAL_BACKENDS

pytestmark = pytest.mark.anyio

DOCS = Path(__file__).parent.parent / "docs"
DEADLINES, OUTCOMES = DOCS / "deadlines.md", DOCS / "outcomes.md"
TESTED = {DEADLINES: ["async def report", "images = "], OUTCOMES: ["class Catalogue", "class Slowest", "def report"]}


@pytest.fixture(params=[*VIRTUAL_BACKENDS])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return VIRTUAL_BACKENDS[request.param]()


@pytest.mark.parametrize("page", [DEADLINES, OUTCOMES], ids=lambda page: page.stem)
def test_every_block_is_tested(page: Path) -> None:
    assert len(re.findall(r"^```python$", page.read_text(encoding="utf-8"), re.MULTILINE)) == len(TESTED[page])


async def test_a_deadline_travels(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = functions_of(DEADLINES, "async def report")
    async with bounded(), MemoryBroker() as broker, broker.connect() as nc, natsery.serve(nc, names["config"]):
        await names["main"](nc)
        assert (await nc.request("rows", headers={"Request-Timeout-Ms": "550"})).data.count(b"row") == 5
        assert (await nc.request("rows")).data.count(b"row") == 10
    assert capsys.readouterr().out == "10 rows\n"


async def test_work_is_bounded() -> None:
    names = functions_of(DEADLINES, "images = ")
    async with bounded(), MemoryBroker() as broker, broker.connect() as nc, natsery.serve(nc, names["config"]):
        assert (await nc.request("images.render", b"a")).data == b"A"
        assert (await nc.request("images.resize", bytes(20))).data == bytes(10)


def test_the_table_names_the_options_that_bound() -> None:
    table = DEADLINES.read_text(encoding="utf-8")
    options = set(natsery.group.__annotations__) | set(natsery.GroupConfig.__dataclass_fields__)
    named = set(re.findall(r"^\| (?:`(\w+)`(?:, `(\w+)`)?) \|", table, re.MULTILINE))
    assert {name for pair in named for name in pair if name} == {
        "concurrency",
        "limiter",
        "pending_messages",
        "pending_bytes",
        "pending_seconds",
        "timeout",
    }
    assert {name for pair in named for name in pair if name} <= options


async def test_each_request_has_a_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "natsery.access")
    names = functions_of(OUTCOMES, "class Catalogue")
    async with bounded(), MemoryBroker() as broker, broker.connect() as nc, natsery.serve(nc, names["config"]):
        replies = [error_of(await nc.request("price", data)) for data in (b"tea", b"gold", b"")]
    assert replies == [None, "404:there is no such item", "400:write an item"]
    lines = [re.sub(r"\d+\.\d", "N", record.getMessage()) for record in caplog.records]
    (shown,) = re.findall(r"^```text\n(.*?)^```", OUTCOMES.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert lines == re.sub(r"\d+\.\d", "N", shown).splitlines()


async def test_instruments() -> None:
    names = functions_of(OUTCOMES, "class Slowest")
    async with bounded(), MemoryBroker() as broker, broker.connect() as nc, natsery.serve(nc, names["config"]):
        assert (await nc.request("hello", headers={"Tenant": "acme"})).data == b"hello acme"
        assert (await nc.request("hello")).data == b"hello "
        await nc.publish("hello", reply="$SYS.x")
    assert names["slowest"].duration >= 0.001
    assert names["slowest"].refused == {"malformed": 1}


def test_each_cause_has_its_row() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ", OUTCOMES.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(rows) == sorted(["None", *(cause.name for cause in natsery.FailureCause)])


async def test_the_error_handler_gets_the_request(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    names = functions_of(OUTCOMES, "def report")
    async with bounded(), MemoryBroker() as broker, broker.connect() as nc, natsery.serve(nc, names["config"]):
        await nc.request("broken")
        await anyio.lowlevel.checkpoint()
    assert capsys.readouterr().out == "broken: RuntimeError('broken') on broken\n"
    caplog.clear()
