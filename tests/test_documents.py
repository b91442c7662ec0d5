"""What the documents say is true, and complete."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import nats.aio.client
import pytest

import natsery
from natsery.testing import MemoryBroker

from .bounds import bounded
from .calc_service import config
from .pages import functions_of
from .raw_client import raw_client
from .server import NatsServer

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parent.parent
TYPED = ROOT / "docs" / "typed.md"
CONNECTION = ROOT / "docs" / "connection.md"
SCHEMAS = ROOT / "docs" / "schemas.md"


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


def test_every_option_of_nats_py_has_its_place() -> None:
    table = CONNECTION.read_text(encoding="utf-8")
    theirs = set(inspect.signature(nats.aio.client.Client.connect).parameters) - {"self"}
    first_cells = " ".join(re.findall(r"^\| ([^|]*) \|", table, re.MULTILINE))
    assert theirs == set(re.findall(r"`(\w+)`", first_cells))


def test_every_option_of_connect_is_described() -> None:
    ours = set(inspect.signature(natsery.connect).parameters)
    arguments = inspect.getdoc(natsery.connect).partition("Args:")[2].partition("Raises:")[0]  # type: ignore[union-attr]
    assert ours == set(re.findall(r"^    (\w+): ", arguments, re.MULTILINE))
    table = CONNECTION.read_text(encoding="utf-8")
    assert [option for option in ours if f"`{option}" not in table] == []


def test_the_order_in_the_documents_is_read_and_written() -> None:
    names = functions_of(TYPED, "class Order")
    assert names["order"].items == [names["Item"]("tea")]
    assert names["body"] == b'{"items":[{"name":"tea","count":1}],"placed":"2026-02-03T12:00:00Z","tags":{}}'
    assert names["schema"]["description"] == "What a customer orders."


def test_the_errors_of_bodies_in_the_documents_are_true() -> None:
    decode = functions_of(TYPED, "class Order")["decode"]
    rows = re.findall(r"^\| `([\[{].*)` \| `(\$.*)` \|$", TYPED.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) == 5
    for body, text in rows:
        with pytest.raises(natsery.DecodeError) as caught:
            decode(body.encode())
        assert str(caught.value) == text


def test_the_codec_in_the_documents_works() -> None:
    codec = functions_of(TYPED, "class MsgpackCodec")["MsgpackCodec"]()
    assert codec.decoder(dict[str, int])(codec.encoder(dict[str, int])({"a": 1})) == {"a": 1}
    with pytest.raises(natsery.DecodeError, match=r"\$: Expected `int`, got `str`"):
        codec.decoder(int)(codec.encoder(str)("x"))
    assert codec.schema(int) == {"type": "integer"}


async def test_the_connection_in_the_documents_works(
    nats_server: NatsServer, capsys: pytest.CaptureFixture[str]
) -> None:
    orders = functions_of(CONNECTION, "async def orders")["orders"]

    async def reserve(request: natsery.Request) -> bytes:
        return b"reserved " + request.data

    config = natsery.ServiceConfig("stock", "1.0.0", endpoints=[natsery.group("stock", [reserve])])
    async with bounded(), natsery.connect(nats_server.url) as nc, natsery.serve(nc, config):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(orders, nc)
            output = ""
            while "reserved 7" not in output:
                await nc.publish("orders.old", b"7")
                await nc.flush()
                output += capsys.readouterr().out
            tasks.cancel_scope.cancel()
    assert "orders.old b'7'\nb'reserved 7'" in output


async def test_the_bridge_in_the_documents_reaches_key_value(tmp_path: Path) -> None:
    store = functions_of(CONNECTION, "async def store")["store"]
    with NatsServer(f'jetstream {{ store_dir: "{tmp_path}" }}') as server:
        async with bounded(), natsery.bridge(server.url) as nc:
            await nc.call(lambda client: client.jetstream().create_key_value(bucket="settings"))
            await store(nc)

            async def read(client: nats.aio.client.Client) -> bytes | None:
                bucket = await client.jetstream().key_value("settings")
                return (await bucket.get("colour")).value

            assert await nc.call(read) == b"green"


STREAMS = ROOT / "docs" / "streams.md"


async def test_the_stream_in_the_documents_is_read(nats_server: NatsServer, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", STREAMS.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile("\n".join(blocks), str(STREAMS), "exec", dont_inherit=True), names)
    async with bounded(), natsery.connect(nats_server.url) as nc, natsery.serve(nc, names["config"]):
        await names["main"](nc)
    assert capsys.readouterr().out == "1\n2\n3\n[1, 2, 3]\n"


def bytes_of_the_stream() -> list[tuple[str, str]]:
    """Each line of the stream in the documents, and who sends it."""
    transcript = STREAMS.read_text(encoding="utf-8").partition("### A stream, byte by byte")[2].split("```")[1]
    return [(line[0], line[2:]) for line in transcript.strip().splitlines()]


async def test_the_bytes_in_the_documents_are_those_on_the_wire(nats_server: NatsServer) -> None:
    @natsery.endpoint
    async def count(body: int) -> AsyncIterator[int]:
        for number in range(1, body + 1):
            yield number

    def take_part() -> tuple[list[str], list[str]]:
        inbox = "_INBOX.b.4f1c9d02a7e65b38"
        theirs = ""
        expected: list[str] = []
        received: list[str] = []
        with raw_client(nats_server.port) as client:
            client.log_in(headers=True, no_responders=True)
            for sender, line in bytes_of_the_stream():
                if sender == "→":
                    client.send(f"{line.replace(inbox, theirs)}\r\n")
                    continue
                while (came := client.read_line()).startswith(("PING", "PONG", "INFO")):
                    pass
                if not theirs:
                    theirs = came.split()[3].rpartition(".")[0]
                expected.append(line)
                received.append(came.replace(theirs, inbox))
            client.send("PING\r\n")
            client.read_until("PONG")
        return expected, received

    async with bounded(), natsery.connect(nats_server.url) as nc, natsery.serve(nc, config(count)) as service:
        expected, received = await anyio.to_thread.run_sync(take_part)
        assert received == expected
        assert service.stats().endpoints[0].num_errors == 0


def test_the_held_connection_in_the_documents_is_left_by_the_task_that_entered_it(nats_server: NatsServer) -> None:
    held_connection = functions_of(CONNECTION, "def held_connection")["held_connection"]

    async def main() -> None:
        async with asyncio.timeout(10):
            fixture = held_connection(nats_server.url)

            async def step() -> Any:
                return await anext(fixture, None)

            nc = await asyncio.create_task(step())
            await nc.flush()
            await asyncio.create_task(step())
            assert nc.is_closed
            with pytest.raises(natsery.ConfigError):
                await anext(held_connection("http://nowhere"))

    asyncio.run(main())


async def test_the_schemas_in_the_documents_are_what_is_on_the_wire() -> None:
    text = SCHEMAS.read_text(encoding="utf-8")
    info, document = re.findall(r"^```json\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    config = replace(functions_of(SCHEMAS, "async def add")["config"], id=json.loads(info)["id"])
    async with bounded(), MemoryBroker() as broker, broker.connect() as nc, natsery.serve(nc, config) as service:
        assert info == f"{json.dumps(service.info().to_dict(), indent=2)}\n"
        served = await nc.request(f"_SCHEMA.calc.{service.id}")
        assert document == f"{json.dumps(json.loads(served.data), indent=2)}\n"
        assert json.loads((await natsery.ServiceClient(nc).schema("calc")).raw) == json.loads(document)
    (digested,) = re.findall(r'^    (\{"content_type".*\})$', text, re.MULTILINE)
    assert f"sha256:{hashlib.sha256(digested.encode()).hexdigest()[:16]}" in document
