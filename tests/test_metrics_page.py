"""The program of docs/metrics.md runs, and a scrape of it is as the page shows it."""

from __future__ import annotations

import re
from pathlib import Path

import prometheus_client
import pytest

import natsery
from natsery.prometheus import Metrics
from natsery.testing import MemoryBroker

from .test_documents import functions_of
from .test_serve import bounded, error_of

PAGE = Path(__file__).parent.parent / "docs" / "metrics.md"


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_the_program_has_the_samples_of_the_page() -> None:
    names = functions_of(PAGE, "Metrics()")
    async with bounded(), MemoryBroker() as broker, broker.connect() as nc, natsery.serve(nc, names["config"]):
        assert await names["ask"](nc) == b"350"
        assert error_of(await nc.request("price", b"gold")) == "404:there is no such item"
        scraped = prometheus_client.generate_latest().decode().splitlines()
    (shown,) = re.findall(r"^```text\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert [line for line in shown.splitlines() if line not in scraped] == []
    assert any(line.startswith("process_cpu_seconds_total ") for line in scraped)


def test_the_table_lists_every_metric() -> None:
    registry = prometheus_client.CollectorRegistry()
    Metrics(registry)
    ours = {(f"{each.name}_total" if each.type == "counter" else each.name, each.type) for each in registry.collect()}
    table = re.findall(r"^\| `(natsery_\w+)` \| (\w+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(table) == sorted(ours)
