"""Every block of docs/handlers.md runs, and does what the page says of it."""

from __future__ import annotations

import importlib
import json
import logging
import math
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest

import natsery
from natsery._cli._run._loading import load
from natsery.testing import MemoryBroker, open_server

from .bounds import bounded
from .calc_service import error_of
from .pages import modules_in
from .processes import running

pytestmark = pytest.mark.anyio

PAGE = Path(__file__).parent.parent / "docs" / "handlers.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)

NAMES = {
    "class Catalogue": "shop",
    "async def echo": "forms",
    "class Shop": "methods",
    "async def find": "silence",
    "async def take_order": "reply_prefixes",
    "async def items": "streams",
    "async def follow": "sharing_state",
    "async def test_price": "test_shop",
    "async def yearly": "groups",
    "async def explain": "around",
    "def receipt": "threads",
    "both = [": "services",
    "running = [": "several",
}
"""What each block holds that no other does, and the name of the module that it becomes."""


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(autouse=True)
def modules(tmp_path: Path) -> Iterator[None]:
    """The blocks as modules."""
    texts: dict[str, str] = {}
    for text, name in NAMES.items():
        (texts[name],) = [block for block in BLOCKS if text in block]
    with modules_in(tmp_path, texts):
        yield


@asynccontextmanager
async def serving(module: ModuleType) -> AsyncIterator[tuple[natsery.abc.Connection, natsery.Service]]:
    async with bounded(), MemoryBroker() as broker, broker.connect() as nc:
        async with natsery.serve(nc, module.config) as service:
            yield nc, service


async def ask(nc: natsery.abc.Connection, subject: str, body: str) -> Any:
    reply = await nc.request(subject, body.encode())
    return error_of(reply) or json.loads(reply.data)


def test_every_block_is_tested() -> None:
    assert len(BLOCKS) == len(NAMES)


async def test_the_shop() -> None:
    shop = importlib.import_module("shop")
    async with serving(shop) as (nc, service):
        catalogue = service._context.state
        assert await ask(nc, "shop.price", '{"item": "tea", "count": 2}') == {"item": "tea", "count": 2, "cents": 700}
        assert await ask(nc, "shop.price", '{"item": "gold"}') == "404:there is no 'gold' here"
        assert catalogue.is_open
    assert not catalogue.is_open


async def test_what_handlers_take_and_give() -> None:
    async with serving(importlib.import_module("forms")) as (nc, _), nc.subscribe("shop.asked") as asked:
        assert (await nc.request("echo", b"\xff")).data == b"\xff"
        assert await ask(nc, "double", '{"item": "tea"}') == {"item": "tea", "count": 2, "cents": 700}
        assert await ask(nc, "bulk", '[{"item": "tea"}, {"item": "cocoa", "count": 4}]') == {"tea": 1, "cocoa": 4}
        assert (await asked.receive()).data.startswith(b"[")
        error = await ask(nc, "double", '{"item": "tea", "count": "x"}')
        assert error == "400:Invalid Body: $.count: must be an int, got 'x'"
        assert error.removeprefix("400:") in PAGE.read_text(encoding="utf-8")


async def test_methods() -> None:
    methods, shop = importlib.import_module("methods"), importlib.import_module("shop")
    methods.config = methods.make_config(shop.Catalogue())
    async with serving(methods) as (nc, _):
        assert await ask(nc, "shop.price", '{"item": "tea"}') == {"item": "tea", "count": 1, "cents": 350}


async def test_silence() -> None:
    async with serving(importlib.import_module("silence")) as (nc, service):
        async with natsery.ServiceClient(nc).request_many("find", b'{"item": "gold"}', wait=0.01) as replies:
            assert [reply async for reply in replies] == []
        assert await ask(nc, "find", '{"item": "tea"}') == {"item": "tea", "count": 1, "cents": 350}
        stats = service.endpoints[0].stats()
        assert (stats.num_requests, stats.num_errors) == (2, 0)


async def test_replies_that_acknowledge_to_jetstream() -> None:
    module = importlib.import_module("reply_prefixes")
    stream = {"name": "ORDERS", "subjects": ["orders.*"], "storage": "memory"}
    consumer = {
        "durable_name": "take",
        "deliver_subject": "deliver.orders",
        "deliver_group": "q",
        "ack_policy": "explicit",
    }
    async with bounded(), open_server(jetstream=True) as server, natsery.connect(server.url) as nc:

        async def ask_jetstream(verb: str, body: dict[str, Any] | None = None) -> Any:
            return json.loads((await nc.request(f"$JS.API.{verb}", json.dumps(body or {}).encode())).data)

        async with natsery.serve(nc, module.config) as service:
            await ask_jetstream("STREAM.CREATE.ORDERS", stream)
            await ask_jetstream("CONSUMER.DURABLE.CREATE.ORDERS.take", {"stream_name": "ORDERS", "config": consumer})
            await nc.request("orders.1", b"tea")
            while not (info := await ask_jetstream("CONSUMER.INFO.ORDERS.take"))["ack_floor"]["stream_seq"]:
                assert "error" not in info
            assert (info["delivered"]["stream_seq"], info["num_ack_pending"]) == (1, 0)
        assert service.stats().endpoints[0].num_requests == 1


async def test_streams() -> None:
    streams = importlib.import_module("streams")
    async with serving(streams) as (nc, _):
        async with natsery.ServiceClient(nc).stream(streams.items, service=streams.config) as parts:
            assert [part async for part in parts] == ["tea", "cocoa"]
        async with natsery.ServiceClient(nc).request_many("items", sentinel=b"", wait=math.inf) as replies:
            assert [reply.data async for reply in replies] == [b'"tea"', b'"cocoa"']


async def test_what_handlers_share() -> None:
    async with serving(importlib.import_module("sharing_state")) as (nc, _):
        assert await ask(nc, "known", '{"item": "gold"}') is False
        while not await ask(nc, "known", '{"item": "gold"}'):
            await nc.publish("shop.new", b"gold")


async def test_groups() -> None:
    groups = importlib.import_module("groups")
    price, yearly = groups.config.placed_endpoints()
    assert (price.subject, price.limits.timeout, price.limits.concurrency) == ("shop.price", 5, 16)
    assert (yearly.subject, yearly.limits.timeout, yearly.limits.concurrency) == ("shop.reports.yearly", 60, 1)
    async with serving(groups) as (nc, _):
        assert await ask(nc, "shop.reports.yearly", '{"item": "tea", "count": 2}') == 730


async def test_middlewares(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "shop")
    async with serving(importlib.import_module("around")) as (nc, _):
        await ask(nc, "shop.price", '{"item": "tea"}')
        assert await ask(nc, "shop.price", '{"item": 1}') == "422:$.item must be a string, got 1"
    assert caplog.messages == ["price: 36 bytes", "price: 422:$.item must be a string, got 1"]


async def test_handlers_that_block() -> None:
    async with serving(importlib.import_module("threads")) as (nc, _):
        assert await ask(nc, "shop.receipt", '[{"item": "tea", "count": 2, "cents": 700}]') == "2 tea: 7.00"


@pytest.mark.parametrize(
    ("target", "names"),
    [
        ("shop", ["shop"]),
        ("services:both", ["shop", "stock"]),
        ("services:make", ["shop"]),
        ("services:make_later", ["shop"]),
        ("services:sharing", ["shop", "stock"]),
    ],
)
async def test_what_natsery_run_serves(target: str, names: list[str]) -> None:
    async with bounded(), MemoryBroker() as broker, broker.connect() as nc, load(target).open(nc) as configs:
        assert [config.name for config in configs] == names


async def test_several_services_in_a_program_share_a_lifespan() -> None:
    several = importlib.import_module("several")
    async with bounded(), MemoryBroker() as broker, broker.connect() as nc, anyio.create_task_group() as tasks:
        tasks.start_soon(several.main, nc)
        client = natsery.ServiceClient(nc)
        while len(await client.ping(count=2, wait=0.01)) < 2:
            pass
        for subject in ("shop.price", "stock.price"):
            assert await ask(nc, subject, '{"item": "tea"}') == {"item": "tea", "count": 1, "cents": 350}
        tasks.cancel_scope.cancel()


def test_the_tests_pass(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\ntrio_mode = true\nfilterwarnings = error\n")
    with running("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_shop.py", cwd=tmp_path) as program:
        assert program.wait() == 0, program.output
    assert "1 passed" in program.output
