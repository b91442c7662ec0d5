"""Every block of docs/metrics.md runs, and gives what the page shows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import prometheus_client
import pytest

import natsery
from natsery.prometheus import Metrics
from natsery.testing import MemoryBroker

from .bounds import bounded
from .calc_service import error_of
from .pages import functions_of

PAGE = Path(__file__).parent.parent / "docs" / "metrics.md"


pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("own_metrics")]


@pytest.fixture
def anyio_backend() -> str:
    return "trio"


def test_every_block_is_tested() -> None:
    assert len(re.findall(r"^```python$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)) == 2


async def test_the_program_has_the_samples_of_the_page() -> None:
    names = functions_of(PAGE, "Metrics()")
    async with bounded(), MemoryBroker() as broker, broker.connect() as nc, natsery.serve(nc, names["config"]):
        assert await names["ask"](nc) == b"350"
        assert error_of(await nc.request("price", b"gold")) == "404:there is no such item"
        scraped = prometheus_client.generate_latest().decode().splitlines()
    (shown,) = re.findall(r"^```text\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert [line for line in shown.splitlines() if line not in scraped] == []
    assert any(line.startswith("process_cpu_seconds_total ") for line in scraped)


async def test_the_details_are_those_of_the_page() -> None:
    names = functions_of(PAGE, "stats_details")
    async with bounded(), MemoryBroker() as broker, broker.connect() as nc, natsery.serve(nc, names["config"]):
        assert error_of(await nc.request("stock", b"")) == "400:write an item"
        (stats,) = await natsery.ServiceClient(nc).stats("warehouse", count=1)
    (shown,) = re.findall(r"^```json\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert stats.endpoints[0].data == json.loads(shown)


def test_the_table_lists_every_metric() -> None:
    registry = prometheus_client.CollectorRegistry()
    Metrics(registry)
    ours = {(f"{each.name}_total" if each.type == "counter" else each.name, each.type) for each in registry.collect()}
    table = re.findall(r"^\| `(natsery_\w+)` \| (\w+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(table) == sorted(ours)
