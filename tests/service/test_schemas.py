"""Schemas on the wire: what INFO says of them, and the endpoint that serves them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import msgspec
import pydantic
import pytest

import natsery
from natsery import ServiceError
from natsery.abc import Connection
from natsery.testing import MemoryBroker

from ..bounds import bounded
from ..calc_service import config

pytestmark = pytest.mark.anyio


@dataclass
class Add:
    a: int
    b: int


class Struct(msgspec.Struct):
    """Points, and a weight."""

    points: list[tuple[int, float]]
    weight: float = 0.5


class Model(pydantic.BaseModel):
    name: str = pydantic.Field(min_length=1)
    parent: Model | None = None


async def add(body: Add) -> int:
    return body.a + body.b


async def struct(body: Struct) -> Struct:
    return body


async def model(request: natsery.Request, body: Model) -> Model | None:
    return body


async def raw(request: natsery.Request) -> bytes:
    return b""


async def document_of(nc: Connection, wanted: bytes = b"") -> dict:
    return json.loads((await natsery.ServiceClient(nc).request("_SCHEMA.calc.x", wanted)).data)


def serve(nc: Connection, *endpoints, **options):
    return natsery.serve(nc, config(*endpoints, **{"id": "x", "schemas": True, **options}))


async def test_off_changes_nothing(nc: Connection) -> None:
    async with bounded(), serve(nc, add, raw, schemas=False) as service:
        assert [each.name for each in service.info().endpoints] == ["add", "raw"]
        assert [dict(each.metadata) for each in service.info().endpoints] == [{}, {}]


async def test_info_has_digests_and_the_endpoint_that_serves_the_document(nc: Connection) -> None:
    described = natsery.EndpointConfig("add", add, metadata={"a": "b"})
    async with bounded(), serve(nc, natsery.group("math", [described]), raw) as service:
        (info,) = await natsery.ServiceClient(nc).info("calc", "x")
        assert info == service.info()
        first, second, last = info.endpoints
        (digest,) = [each["digest"] for each in (await document_of(nc))["endpoints"] if each["name"] == "add"]
        assert first.metadata == {"a": "b", "schema": digest} == service.endpoints[0].metadata
        assert second.metadata == {}
        assert (last.name, last.subject) == ("_schema", "_SCHEMA.calc.x")
        assert last.metadata == {"serves": "io.natsery.v1.schema_response"}


async def test_the_document(nc: Connection) -> None:
    async with bounded(), serve(nc, natsery.group("math", [add]), raw, description="Sums", metadata={"c": "d"}):
        document = await document_of(nc)
    digest = document["endpoints"][0].pop("digest")
    assert document == {
        "name": "calc",
        "id": "x",
        "version": "1.0.0",
        "metadata": {"c": "d"},
        "type": "io.natsery.v1.schema_response",
        "description": "Sums",
        "endpoints": [
            {
                "name": "add",
                "subject": "math.add",
                "content_type": "application/json",
                "request": {
                    "$schema": "https://json-schema.org/draft/2020-12/schema",
                    "title": "Add",
                    "type": "object",
                    "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
                    "required": ["a", "b"],
                },
                "response": {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "integer"},
                "stream": False,
            },
            {
                "name": "raw",
                "subject": "raw",
                "content_type": None,
                "request": None,
                "response": None,
                "stream": False,
                "digest": None,
            },
        ],
    }
    text = json.dumps(document["endpoints"][0], sort_keys=True, separators=(",", ":"))
    assert digest == f"sha256:{hashlib.sha256(text.encode()).hexdigest()[:16]}"


@pytest.mark.parametrize(
    ("handler", "fits", "does_not"),
    [
        (add, {"a": 1, "b": 2}, {"a": 1}),
        (struct, {"points": [[1, 0.5]]}, {"points": [[1]]}),
        (model, {"name": "a", "parent": {"name": "b"}}, {"name": "a", "parent": {"name": ""}}),
    ],
)
async def test_schemas_are_json_schemas(nc: Connection, handler, fits, does_not) -> None:
    """What fits the schema is answered, and what does not is refused."""
    async with bounded(), serve(nc, handler):
        (endpoint,) = (await document_of(nc))["endpoints"]
        for schema in (endpoint["request"], endpoint["response"]):
            jsonschema.Draft202012Validator.check_schema(schema)
        validator = jsonschema.Draft202012Validator(endpoint["request"])
        client = natsery.ServiceClient(nc)
        assert validator.is_valid(fits)
        reply = await client.request(endpoint["subject"], fits, returns=object)
        jsonschema.validate(reply, endpoint["response"], jsonschema.Draft202012Validator)
        assert not validator.is_valid(does_not)
        with pytest.raises(ServiceError, match="Invalid Body"):
            await client.request(endpoint["subject"], does_not, returns=object)


async def test_one_endpoint_can_be_asked_for(nc: Connection) -> None:
    again = natsery.EndpointConfig("add", struct, subject="add.again")
    async with bounded(), serve(nc, natsery.group("math", [add, again]), raw) as service:
        for wanted, found in ((b"raw", ["raw"]), (b"math.add", ["math.add"]), (b"add", ["math.add", "math.add.again"])):
            assert [each["subject"] for each in (await document_of(nc, wanted))["endpoints"]] == found
        for wanted in (b"sub", b"_schema", b"\xff"):
            with pytest.raises(ServiceError, match="404:No Such Endpoint"):
                await document_of(nc, wanted)
        assert service.stats().endpoints[-1].num_errors == 3


async def test_endpoints_that_come_and_go_are_seen(nc: Connection) -> None:
    async with bounded(), serve(nc, raw) as service:
        added = await service.add_group("late").add_endpoint(add)
        assert added.metadata["schema"].startswith("sha256:")
        assert [each["subject"] for each in (await document_of(nc))["endpoints"]] == ["raw", "late.add"]
        await added.remove()
        assert [each["subject"] for each in (await document_of(nc))["endpoints"]] == ["raw"]


async def test_the_same_types_have_the_same_digest_and_others_another(nc: Connection) -> None:
    def digest_of(handler) -> str:
        placed = config(natsery.EndpointConfig("one", handler), schemas=True).placed_endpoints()[0]
        return placed.schema.digest

    async def add_2(body: Add) -> int:
        return 0

    async def add_3(body: Add) -> float:
        return 0

    async def stream(body: Add) -> AsyncIterator[int]:
        yield 0

    assert digest_of(add) == digest_of(add_2)
    assert len({digest_of(each) for each in (add, add_3, stream, struct, model)}) == 5


def test_streams_are_described_as_such() -> None:
    async def count(body: int) -> AsyncIterator[Add]:
        yield Add(1, 2)

    async def lines(request: natsery.Request) -> AsyncIterator[bytes]:
        yield b""

    typed, plain = (each.schema for each in config(count, lines, schemas=True).placed_endpoints())
    assert typed.stream
    assert typed.response["title"] == "Add"
    assert (plain.stream, plain.response, plain.digest) == (True, None, None)


@pytest.mark.slow
def test_digests_are_the_same_in_every_process() -> None:
    program = "from tests.cli.shop import SHOP; print(*(each.schema.digest for each in SHOP.placed_endpoints()))"
    printed = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in "123"
    }
    assert len(printed) == 1
    assert "sha256:" in printed.pop()


@pytest.mark.parametrize(
    ("endpoint", "reason"),
    [
        (natsery.EndpointConfig("_schema", raw), r"name: is that of the endpoint that serves the schemas"),
        (natsery.EndpointConfig("all", raw, subject=">"), r"subject: must leave _SCHEMA\.calc\.x to"),
        (natsery.EndpointConfig("all", raw, subject="*.calc.x"), r"subject: must leave _SCHEMA\.calc\.x to"),
        (natsery.EndpointConfig("other", raw, subject="_SCHEMA.other"), r"subject: must leave _SCHEMA\.calc\.x to"),
        (natsery.EndpointConfig("add", add, metadata={"schema": "mine"}), r"metadata: must leave the key 'schema' to"),
    ],
)
async def test_what_clashes_is_refused(nc: Connection, endpoint, reason: str) -> None:
    config(endpoint)
    with pytest.raises(natsery.ConfigError, match=reason):
        config(endpoint, id="x", schemas=True)
    async with bounded(), serve(nc) as service:
        with pytest.raises(natsery.ConfigError, match=reason):
            await service.add_endpoint(endpoint)
        assert [each.name for each in service.endpoints] == ["_schema"]


class Odd(natsery.Codec):
    content_type = "application/odd"

    def __init__(self, schema: object) -> None:
        self._schema = schema

    def decoder(self, type_):
        return bytes

    def encoder(self, type_):
        return bytes

    def schema(self, type_):
        if isinstance(self._schema, Exception):
            raise self._schema
        return self._schema


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (
            TypeError("Odd cannot"),
            r"has a type without a schema: Odd cannot; write another type, or ServiceConfig\(sch",
        ),
        ({"default": float("nan")}, "has a schema that cannot be written as JSON: Out of range"),
        ({1: {}}, "has a schema that cannot be written as JSON: the keys"),
        ("odd", "has a schema that cannot be written as JSON: "),
        ({"default": {1}}, "has a schema that cannot be written as JSON: .*set"),
    ],
)
def test_schemas_that_cannot_be_written_are_refused_with_the_configuration(schema: object, reason: str) -> None:
    with pytest.raises(natsery.ConfigError, match=rf"EndpointConfig\('add'\)\.handler: {reason}"):
        config(add, codec=Odd(schema), schemas=True)


def test_it_is_on_or_off() -> None:
    with pytest.raises(natsery.ConfigError, match=r"ServiceConfig\.schemas: must be True or False; got 'yes'"):
        config(schemas="yes")


async def test_a_document_larger_than_a_message_is_asked_for_in_pieces(nc: Connection) -> None:
    large = Odd({"description": "x" * (nc.max_payload // 3)})
    endpoints = [natsery.EndpointConfig(name, add, codec=large) for name in ("one", "two", "three")]
    async with bounded(), serve(nc, *endpoints, description="Sums") as service:
        with pytest.raises(ServiceError, match="413:Schema Too Large: send the name of one endpoint"):
            await document_of(nc)
        assert len((await document_of(nc, b"two"))["endpoints"]) == 1
        schema = await natsery.ServiceClient(nc).schema("calc")
        assert [each.name for each in schema.endpoints] == ["one", "two", "three"]
        assert schema.endpoints[0].digest == service.endpoints[0].metadata["schema"]
        assert (schema.id, schema.version, schema.description) == ("x", "1.0.0", "Sums")


async def test_a_document_may_be_as_large_as_a_message(broker: MemoryBroker, nc: Connection) -> None:
    async with bounded(), serve(nc, add):
        document = await document_of(nc)
        assert document["description"] == ""
        broker.max_payload = len(json.dumps(document, separators=(",", ":")))
        assert await document_of(nc) == document
        broker.max_payload -= 1
        with pytest.raises(ServiceError, match="413:"):
            await document_of(nc)


async def test_the_server_may_deny_it(broker: MemoryBroker) -> None:
    async with bounded(), broker.connect(subscribe=["add", "$SRV.>", "_INBOX.>"]) as nc:
        with pytest.raises(natsery.SubscriptionDeniedError, match=r"_schema.*_SCHEMA\.calc\.x"):
            async with serve(nc, add):
                pass
        async with serve(nc, add, schemas=False):
            pass


async def test_middlewares_are_around_it(nc: Connection) -> None:
    async def refuse(request: natsery.Request, call_next) -> bytes | None:
        raise ServiceError(401, "not you")

    async with bounded(), serve(nc, add, middlewares=[refuse]):
        with pytest.raises(ServiceError, match="401:not you"):
            await document_of(nc)


async def test_instances_are_asked_each_for_itself(nc: Connection) -> None:
    async with bounded(), serve(nc, add), serve(nc, struct, id="y"):
        client = natsery.ServiceClient(nc)
        assert [each.name for each in (await client.schema("calc", "x")).endpoints] == ["add"]
        assert [each.name for each in (await client.schema("calc", "y")).endpoints] == ["struct"]
