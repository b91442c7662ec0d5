"""The programs of docs/migrating.md run, those of other libraries are Python, and its tables are complete."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from google.protobuf import wrappers_pb2

import natsery
from natsery.testing import MemoryBroker, NatsServer

from .bounds import bounded
from .calc_service import error_of
from .plain_client import ask_json
from .processes import running

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "migrating.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
(
    CATALOGUE,
    SHOP,
    NATS_MICRO,
    THEIR_TOOK,
    OUR_TOOK,
    NATS_PY,
    FASTSTREAM,
    GRPC_SERVER,
    GRPC_CLIENT,
    OUR_CLIENT,
    PROTOBUF,
    TESTS,
) = BLOCKS


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


def run(block: str) -> dict[str, Any]:
    """What a block defines."""
    names: dict[str, Any] = {}
    exec(compile(block, str(PAGE), "exec", dont_inherit=True), names)
    return names


def test_the_shop_answers(nats_server: NatsServer, tmp_path: Path) -> None:
    (tmp_path / "catalogue.py").write_text(CATALOGUE)
    (tmp_path / "shop.py").write_text(SHOP)
    environment = {"NATS_URL": nats_server.url, "PYTHONWARNINGS": "error"}
    with running("-m", "natsery", "run", "shop", cwd=tmp_path, environment=environment) as program:
        program.wait_for("ready")
        replies = ask_json(
            nats_server.url,
            ("shop.price", '{"item": "tea", "count": 3}'),
            ("shop.price", '{"item": "gold"}'),
            ("shop.price", "{}"),
            ("shop.price", '{"item": "tea", "count": "x"}'),
            ("shop.receipt", '[{"item": "tea", "count": 2, "cents": 700}]'),
            ("shop.items", ""),
        )
        program.terminate()
        assert program.wait() == 0, program.output
    assert replies == [
        {"item": "tea", "count": 3, "cents": 1050},
        "404: there is no 'gold' here",
        "400: Invalid Body: $.item: is missing",
        "400: Invalid Body: $.count: must be an int, got 'x'",
        "2 tea: 7.00",
        "tea",  # the first of several
    ]
    assert "closing the catalogue" in program.output


def test_its_tests_pass(tmp_path: Path) -> None:
    for name, text in (("catalogue", CATALOGUE), ("shop", SHOP), ("test_shop", TESTS)):
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "pytest.ini").write_text("[pytest]\ntrio_mode = true\nfilterwarnings = error\n")
    with running("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=tmp_path) as program:
        assert program.wait() == 0, program.output
    assert "2 passed" in program.output


async def test_a_middleware_adds_a_header() -> None:
    took = run(OUR_TOOK)["took"]

    @natsery.endpoint
    async def echo(request: natsery.Request) -> bytes | None:
        return request.data or None

    config = natsery.ServiceConfig("echo", "1.0.0", endpoints=[echo], middlewares=[took])
    async with bounded(), MemoryBroker() as broker, broker.connect() as nc, natsery.serve(nc, config) as service:
        reply = await nc.request("echo", b"a")
        assert reply.data == b"a"
        assert float(reply.headers["Took"]) >= 0
        async with natsery.ServiceClient(nc).request_many("echo", wait=0.01) as replies:
            assert [reply async for reply in replies] == []
        assert service.stats().endpoints[0].num_errors == 0


async def test_the_client_in_place_of_grpc_s(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in (("catalogue", CATALOGUE), ("shop", SHOP)):
        module = ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        exec(compile(text, f"{name}.py", "exec", dont_inherit=True), vars(module))
    names = run(OUR_CLIENT)
    async with bounded(), MemoryBroker() as broker, broker.connect() as nc:
        async with natsery.serve(nc, names["guarded"]):
            await names["main"](nc)
            reply = await nc.request("shop.price", b"{}", headers={"Tenant": "nobody"})
            assert error_of(reply) == "403:not for nobody"
    assert capsys.readouterr().out.splitlines() == [
        "opening the catalogue",
        "700",
        "tea",
        "coffee",
        "cocoa",
        "closing the catalogue",
    ]


async def test_bodies_may_be_protobuf() -> None:
    codec = run(PROTOBUF)["ProtobufCodec"]()

    @natsery.endpoint
    async def double(body: wrappers_pb2.Int64Value) -> wrappers_pb2.Int64Value:
        return wrappers_pb2.Int64Value(value=2 * body.value)

    config = natsery.ServiceConfig("calc", "1.0.0", endpoints=[double], codec=codec, schemas=True)
    async with bounded(), MemoryBroker() as broker, broker.connect() as nc, natsery.serve(nc, config):
        client = natsery.ServiceClient(nc, codec=codec)
        assert (await client.call(double, wrappers_pb2.Int64Value(value=21))).value == 42
        with pytest.raises(natsery.ServiceError, match=r"is no google\.protobuf\.Int64Value"):
            await client.request("double", b"\xff")
        (described,) = (await client.schema("calc")).endpoints
        assert described.request == {"title": "google.protobuf.Int64Value"}


def test_the_other_programs_are_python() -> None:
    for block, library in (
        (NATS_MICRO, "nats_contrib"),
        (THEIR_TOOK, "nats_contrib.micro"),
        (NATS_PY, "nats.micro"),
        (FASTSTREAM, "faststream"),
        (GRPC_SERVER, "catalogue"),
        (GRPC_CLIENT, ""),
    ):
        compile(block, library, "exec")
        assert f"from {library}" in block or "import grpc.aio" in block
        assert "natsery" not in block


def test_the_table_has_all_of_nats_py_s_micro() -> None:
    modules = ("nats.micro", "nats.micro.request", "nats.micro.service")
    with running(str(ROOT / "interop" / "programs" / "public_calls.py"), *modules) as program:
        assert program.wait() == 0, program.output
    section = TEXT.partition("## From nats-py's micro\n")[2].partition("\n## ")[0]
    assert set(json.loads(program.output)) - names_in_first_column(section) == set()


def names_in_first_column(section: str) -> set[str]:
    cells = re.findall(r"^\| ([^|]*) \|", section, re.MULTILINE)
    return {name for cell in cells for code in re.findall(r"`([^`]*)`", cell) for name in re.findall(r"\w+", code)}
