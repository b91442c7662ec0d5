"""Every recipe of docs/cookbook.md works."""

from __future__ import annotations

import asyncio
import json
import math
import re
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

import natsery
from natsery.testing import MemoryBroker, NatsServer

from .bounds import HANG_SECONDS, bounded
from .calc_service import error_of, ping
from .pages import functions_of
from .processes import running
from .virtual_time import VIRTUAL_BACKENDS

pytestmark = pytest.mark.anyio

PAGE = Path(__file__).parent.parent / "docs" / "cookbook.md"
TEXT = PAGE.read_text(encoding="utf-8")

RECIPES = [
    "def get_sum",
    "import hypercorn.trio",
    "from quart_trio",
    "shop, stock",
    "retry_first_connect",
    "class Rates",
    "anyio.to_thread",
    "anyio.to_process",
    "class Payments",
    "async def overview",
    "async def archive",
    "start_blocking_portal",
    "def forget_everywhere",
    "Nats-Request-Info",
    "class RateLimit",
    "class Once",
    "async def upload",
    "def price_v1",
    "class OldOrder",
    "class Health",
    "autojump_clock",
]
"""What each block holds that no other does, in the order of the page."""


VIRTUAL = {f"{name} in virtual time": VIRTUAL_BACKENDS[name] for name in ("trio", "asyncio")}
IN_VIRTUAL_TIME = pytest.mark.parametrize("anyio_backend", [*VIRTUAL], indirect=True)


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return VIRTUAL[request.param]() if request.param in VIRTUAL else request.param


def recipe(start: str) -> dict[str, Any]:
    """What the block defines that holds this text."""
    return functions_of(PAGE, start)


def source_of(start: str) -> str:
    (block,) = [each for each in re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL) if start in each]
    return block


@asynccontextmanager
async def serving(*configs: natsery.ServiceConfig, seconds: float = 20) -> AsyncIterator[natsery.abc.Connection]:
    """A connection to these services, in memory."""
    async with bounded(seconds), MemoryBroker() as broker, broker.connect() as nc, anyio.create_task_group() as tasks:
        for config in configs:
            await tasks.start(natsery.serve_forever, nc, config)
        yield nc
        tasks.cancel_scope.cancel()


def test_every_recipe_is_tested() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    assert [[start for start in RECIPES if start in block] for block in blocks] == [[start] for start in RECIPES]


def test_every_recipe_is_in_the_list_at_the_top() -> None:
    titles = re.findall(r"^## (.*)$", TEXT, re.MULTILINE)
    listed = set(re.findall(r"\]\(#([a-z-]+)\)", TEXT.partition("\n## ")[0]))
    assert listed == {title.lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize(
    ("block", "command", "path", "answer"),
    [
        ("def get_sum", "-m uvicorn --port 0 web:app", "/sum?n=1&n=2", b"3"),
        ("def get_sum", "-m hypercorn -k trio -b 127.0.0.1:0 web:app", "/sum?n=1&n=2", b"3"),
        ("import hypercorn.trio", "web.py", "/double/21", b"42"),
        ("from quart_trio", "-m hypercorn -k trio -b 127.0.0.1:0 web:app", "/square/12", b"144"),
    ],
    ids=["starlette on uvicorn", "starlette on hypercorn", "hypercorn in a nursery", "quart-trio"],
)
def test_a_web_application_holds_a_service(
    block: str, command: str, path: str, answer: bytes, nats_server: NatsServer, tmp_path: Path
) -> None:
    (tmp_path / "web.py").write_text(source_of(block))
    environment = {"NATS_URL": nats_server.url, "BIND": "127.0.0.1:0", "PYTHONWARNINGS": "error"}
    with running(*command.split(), cwd=tmp_path, environment=environment) as program:
        (address,) = re.findall(r"http://127\.0\.0\.1:\d+", program.wait_for("http://"))
        with urllib.request.urlopen(address + path, timeout=HANG_SECONDS) as response:
            assert response.read() == answer
        assert [instance.name for instance in asyncio.run(ping(nats_server.url))] == ["calc"]
        program.terminate()
        program.wait()
    assert "Traceback" not in program.output
    assert asyncio.run(ping(nats_server.url)) == ()


async def test_several_services_share_a_connection(capsys: pytest.CaptureFixture[str]) -> None:
    main = recipe("shop, stock")["main"]
    async with serving() as nc, anyio.create_task_group() as tasks:
        tasks.start_soon(main, nc)
        client = natsery.ServiceClient(nc)
        while len(await client.ping(wait=0.01)) < 2:
            pass
        assert await client.call("shop", "price", "tea", returns=int) == 300
        assert await client.call("stock", "left", "tea", returns=int) == 7
        tasks.cancel_scope.cancel()
    assert re.findall(r"(\w+) is ready, \w+", capsys.readouterr().out) == ["shop", "stock"]


async def test_one_service_is_on_two_servers_one_of_which_comes_late(nats_server: NatsServer) -> None:
    main = recipe("retry_first_connect")["main"]
    with NatsServer() as late:
        late.kill()
        async with bounded(), anyio.create_task_group() as tasks:
            tasks.start_soon(main, nats_server.url, late.url)
            async with natsery.connect(nats_server.url) as nc:
                while not await natsery.ServiceClient(nc).ping("counter", count=1):
                    pass
                assert (await nc.request("count")).data == b"1"
            late.restart()
            async with natsery.connect(late.url) as nc:
                while not await natsery.ServiceClient(nc).ping("counter", count=1):
                    pass
                assert (await nc.request("count")).data == b"2"
            tasks.cancel_scope.cancel()


@IN_VIRTUAL_TIME
async def test_a_periodic_task_runs_beside_the_endpoints() -> None:
    async with serving(recipe("class Rates")["config"], seconds=3600) as nc:
        assert (await nc.request("fetched")).data == b"1"
        await anyio.sleep(150)
        assert (await nc.request("fetched")).data == b"3"


async def test_a_function_that_blocks_runs_in_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("one\ntwo\n")
    (tmp_path / "secret.txt").write_text("not a note")
    monkeypatch.chdir(tmp_path)
    async with serving(recipe("anyio.to_thread")["config"]) as nc:
        assert (await nc.request("lines", b'"a.txt"')).data == b"2"
        assert error_of(await nc.request("lines", b'"../secret.txt"')) == "404:there is no '../secret.txt' here"


def test_work_for_a_processor_runs_in_processes_that_end_with_their_deadline(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    (tmp_path / "factors.py").write_text(source_of("anyio.to_process"))
    environment = {"NATS_URL": nats_server.url, "PYTHONWARNINGS": "error"}

    async def ask() -> None:
        async with bounded(), natsery.connect(nats_server.url) as nc:
            assert (await nc.request("factorize", b"600851475143")).data == b"6857"
            reply = await nc.request("factorize", b"%d" % (2**127 - 1), headers={"Request-Timeout-Ms": "500"})
            assert error_of(reply) == "504:Deadline Exceeded"
            assert (await nc.request("factorize", b"600851475143")).data == b"6857"

    with running("-m", "natsery", "run", "factors", cwd=tmp_path, environment=environment) as program:
        program.wait_for("ready")
        asyncio.run(ask())
        program.terminate()
        assert program.wait() == 0, program.output
    assert "Traceback" not in program.output


@IN_VIRTUAL_TIME
async def test_requests_wait_without_holding_up_others() -> None:
    async with serving(recipe("class Payments")["config"]) as nc, anyio.create_task_group() as tasks:
        answers: dict[str, str] = {}

        async def ask(order: str, **headers: str) -> None:
            reply = await nc.request("wait_paid", json.dumps(order).encode(), headers=headers)
            answers[order] = error_of(reply) or reply.data.decode()

        for order in ("one", "other"):
            tasks.start_soon(ask, order)
        await ask("late", **{"Request-Timeout-Ms": "5000"})
        assert answers == {"late": "504:late is not paid yet"}
        await nc.publish("payments.new", b"one")
        await nc.publish("payments.new", b"other")
        while len(answers) < 3:
            await anyio.sleep(1)
        assert answers["one"] == answers["other"] == "paid"


@IN_VIRTUAL_TIME
async def test_requests_that_wait_are_cut_off_by_a_stop() -> None:
    config = recipe("class Payments")["config"]
    async with bounded(), MemoryBroker() as broker, broker.connect() as nc, broker.connect() as requester:
        async with anyio.create_task_group() as tasks:
            answers: list[str | None] = []

            async def ask() -> None:
                answers.append(error_of(await requester.request("wait_paid", b'"one"')))

            async with natsery.serve(nc, config, grace=3) as service:
                tasks.start_soon(ask)
                while not service.pending:
                    await anyio.sleep(1)
    assert answers == ["503:Service Stopping"]


async def test_calls_are_made_at_the_same_time_and_their_errors_are_handed_on() -> None:
    price, left = (recipe("shop, stock")[name] for name in ("shop", "stock"))
    overview = recipe("async def overview")["config"]
    async with serving(price, left, overview) as nc:
        assert json.loads((await nc.request("overview", b'"tea"')).data) == {"price": 300, "left": 7}
    async with serving(price, overview) as nc:
        assert error_of(await nc.request("overview", b'"tea"')) == "503:try again"

    @natsery.endpoint("left")
    async def missing(body: str) -> int:
        raise natsery.ServiceError(404, f"there is no {body} here")

    stock = natsery.ServiceConfig("stock", "1.0.0", endpoints=[missing])
    async with serving(price, stock, overview) as nc:
        assert error_of(await nc.request("overview", b'"tea"')) == "404:there is no tea here"


@IN_VIRTUAL_TIME
async def test_a_request_that_is_passed_on_is_answered_by_another_service() -> None:
    @natsery.endpoint(subject="archive.1999")
    async def shelf(request: natsery.Request) -> bytes:
        return b"found " + request.data + request.headers["Trace"].encode()

    shelves = natsery.ServiceConfig("shelves", "1.0.0", endpoints=[shelf])
    async with MemoryBroker() as broker, broker.connect() as nc, broker.connect() as requester:
        async with natsery.serve(nc, recipe("async def archive")["config"]), natsery.serve(nc, shelves):
            assert (await requester.request("archive", b"1999", headers={"Trace": "7"})).data == b"found 19997"
            assert error_of(await requester.request("archive", b">")) == "400:begin with a year"
            with anyio.move_on_after(60) as scope:  # nobody is told that nobody listens there
                await requester.request("archive", b"1998")
            assert scope.cancelled_caught


async def test_code_that_is_not_async_calls_a_service(nats_server: NatsServer) -> None:
    @natsery.endpoint
    async def price(item: str) -> int:
        return {"tea": 350, "cocoa": 420}[item]

    config = natsery.ServiceConfig("shop", "1.0.0", endpoints=[price])
    async with bounded(), natsery.connect(nats_server.url) as nc, natsery.serve(nc, config):
        prices = recipe("start_blocking_portal")["prices"]
        assert await anyio.to_thread.run_sync(prices, nats_server.url, ["tea", "cocoa"]) == [350, 420]


async def test_a_command_reaches_every_instance(capsys: pytest.CaptureFixture[str]) -> None:
    names = recipe("def forget_everywhere")
    async with serving(*[names["config"]] * 3) as nc:
        client = natsery.ServiceClient(nc)
        for _ in range(20):
            assert await client.call(names["price"], "tea", service=names["config"]) == 300
        assert await names["forget_everywhere"](nc, "tea") in (1, 2, 3)
        assert await names["forget_everywhere"](nc, "tea") == 0
    assert capsys.readouterr().out == 2 * "3 of 3 have answered, count\n"


ACCOUNTS = re.search(r"^```\n(accounts .*?)^```", TEXT, re.MULTILINE | re.DOTALL)[1]  # type: ignore[index]


async def test_a_service_is_called_and_found_from_another_account(capsys: pytest.CaptureFixture[str]) -> None:
    names = recipe("Nats-Request-Info")
    shop, web = ({"user": name, "password": "change me"} for name in ("shop", "web"))
    with NatsServer(ACCOUNTS) as server:
        async with (
            bounded(),
            natsery.connect(server.url, **shop) as nc,
            natsery.connect(server.url, **web) as requester,
        ):
            client = natsery.ServiceClient(requester, prefix="SHOP.SRV")
            with pytest.raises(natsery.NoRespondersError):
                await client.request("shop.price", b'"tea"')
            async with natsery.serve(nc, names["config"]) as one, natsery.serve(nc, names["config"]) as other:
                await names["look_around"](server.url)
                forged = {"Nats-Request-Info": '{"acc": "SHOP"}'}
                await client.request("shop.price", b'"tea"', headers=forged)
                assert {each.id for each in await client.ping(count=2)} == {one.id, other.id}
                async with client.stream("shop.items", window=8, returns=str) as items:
                    assert len([item async for item in items]) == 1000
    lines = capsys.readouterr().out.splitlines()
    assert lines.count("asked by WEB") == 2
    assert [line for line in lines if line != "asked by WEB"] == ["[('shop', '1.0.0'), ('shop', '1.0.0')]", "300"]


async def test_a_service_that_may_not_answer_other_accounts_says_so(caplog: pytest.LogCaptureFixture) -> None:
    names = recipe("Nats-Request-Info")
    shop, web = ({"user": name, "password": "change me"} for name in ("shop", "web"))
    with NatsServer(ACCOUNTS.replace('["_INBOX.>", "_R_.>"]', '["_INBOX.>"]')) as server:
        async with (
            bounded(),
            natsery.connect(server.url, **shop) as nc,
            natsery.connect(server.url, **web) as requester,
        ):
            denied = anyio.Event()

            def report(error: Exception, endpoint: object, request: object) -> None:
                assert str(error).startswith("the server denies publishing to '_R_.")
                denied.set()

            config = natsery.ServiceConfig("shop", "1.0.0", endpoints=names["config"].endpoints, error_handler=report)
            async with natsery.serve(nc, config), anyio.create_task_group() as tasks:
                tasks.start_soon(requester.request, "shop.price", b'"tea"')
                await denied.wait()
                tasks.cancel_scope.cancel()
    assert "the server denies publishing to '_R_." in caplog.text
    caplog.clear()


@IN_VIRTUAL_TIME
async def test_tenants_are_limited() -> None:
    names = recipe("class RateLimit")
    async with serving(names["config"]) as nc:

        async def ask(tenant: str) -> str | None:
            return error_of(await nc.request("catalogue.search", headers={"Tenant": tenant}))

        assert Counter([await ask("a") for _ in range(12)]) == {None: 10, "429:Too Many Requests": 2}
        assert await ask("b") is None
        await anyio.sleep(1)
        assert [await ask("a") for _ in range(3)] == [None, None, "429:Too Many Requests"]

    async def take(limit: Any, tenants: str) -> list[bool]:
        return [limit.take(tenant) for tenant in tenants]

    assert await take(names["RateLimit"](1, 0, tenants=2), "abcac") == [True, True, True, True, False]


@IN_VIRTUAL_TIME
async def test_a_request_with_a_known_key_is_not_carried_out_again() -> None:
    names = recipe("class Once")
    async with serving(names["config"]) as nc, anyio.create_task_group() as tasks:
        client = natsery.ServiceClient(nc)
        numbers: list[int] = []

        async def book(body: str, key: str) -> None:
            numbers.append(await client.call(names["book"], body, headers={"Idempotency-Key": key}))

        for _ in range(3):
            tasks.start_soon(book, "room 7", "8e03978e")
        while len(numbers) < 3:
            await anyio.sleep(1)
        await book("room 7", "8e03978e")
        await book("room 8", "b7d1")
        assert numbers == [1, 1, 1, 1, 2]
        assert names["booked"] == ["room 7", "room 8"]
        error = await nc.request("book", b'"x"', headers={"Idempotency-Key": 65 * "x"})
        assert error_of(error) == "400:Idempotency-Key: must have at most 64 characters"


async def test_a_request_that_failed_is_carried_out_again() -> None:
    attempts: list[str] = []

    @natsery.endpoint(concurrency=2)
    async def book(body: str) -> int:
        attempts.append(body)
        if len(attempts) == 1:
            raise natsery.ServiceError(503, "try again")
        return len(attempts)

    once = recipe("class Once")["Once"](kept=1)
    async with serving(natsery.ServiceConfig("booking", "1.0.0", endpoints=[book], middlewares=[once])) as nc:
        replies = [await nc.request("book", b'"x"', headers={"Idempotency-Key": key}) for key in "aaaba"]
    assert [error_of(reply) or reply.data for reply in replies] == ["503:try again", b"2", b"2", b"3", b"4"]
    assert not once.running


async def test_a_large_body_comes_in_pieces(nats_server: NatsServer) -> None:
    names = recipe("async def upload")
    async with bounded(), natsery.connect(nats_server.url) as nc, natsery.connect(nats_server.url) as requester:
        with pytest.raises(TimeoutError, match="no responders"):
            await names["upload"](requester, b"")
        async with natsery.serve(nc, names["config"]) as service:
            for size in (0, 1, names["PIECE"], 5_000_000):
                assert await names["upload"](requester, bytes(size)) == size
            assert service.stats().endpoints[0].num_errors == 0


@IN_VIRTUAL_TIME
async def test_an_upload_ends_whose_requester_has_no_more_pieces() -> None:
    async with serving(recipe("async def upload")["config"]) as nc:
        async with natsery.ServiceClient(nc).request_many("files.store", wait=math.inf, count=2) as messages:
            first, error = [message async for message in messages]
    assert first.data == b"0"
    assert error_of(error) == "408:no more pieces"


async def test_two_versions_answer_side_by_side() -> None:
    async with serving(recipe("def price_v1")["config"]) as nc:
        client = natsery.ServiceClient(nc)
        assert await client.call("shop", "shop.v1.price", "tea", returns=int) == 300
        assert await client.call("shop", "shop.v2.price", "tea", returns=dict) == {"cents": 300, "currency": "EUR"}
        (info,) = await client.info()
        assert [(each.name, dict(each.metadata)) for each in info.endpoints] == [
            ("price", {"deprecated": "2027-01-01"}),
            ("price", {}),
        ]


def test_old_and_new_bodies_are_read() -> None:
    names = recipe("class OldOrder")
    assert names["from_old"] == names["NewOrder"]("tea", 1)
    assert names["from_new"] == names["OldOrder"]("tea")
    either = names["codec"].decoder(int | str)
    assert (either(b"3"), either(b'"three"')) == (3, "three")


@IN_VIRTUAL_TIME
async def test_statistics_tell_whether_the_database_is_there() -> None:
    names = recipe("class Health")
    async with serving(names["config"], seconds=60) as nc:
        assert await names["list_sick"](nc) == []
        assert (await nc.request("find", b'"tea"')).data == b'"TEA"'
        names["health"].database.is_there = False
        await anyio.sleep(7)
        assert len(await names["list_sick"](nc)) == 1
        assert error_of(await nc.request("find", b'"tea"')) == "503:the database is down"
        names["health"].database.is_there = True
        await anyio.sleep(7)
        assert await names["list_sick"](nc) == []


def test_the_test_passes(tmp_path: Path) -> None:
    (tmp_path / "test_shop.py").write_text(source_of("autojump_clock"))
    (tmp_path / "pytest.ini").write_text("[pytest]\ntrio_mode = true\nfilterwarnings = error\n")
    with running("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=tmp_path) as program:
        assert program.wait() == 0, program.output
    assert "1 passed" in program.output
