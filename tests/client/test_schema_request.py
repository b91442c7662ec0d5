"""Asking a service for its schemas, whoever answers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

import natsery
from natsery import MalformedReplyError, Message, ServiceError, ServiceInfo, UnknownEndpointError
from natsery._client import _schema_request
from natsery.abc import Connection
from natsery.testing import MemoryBroker

from ..bounds import bounded
from ..calc_service import add, config

pytestmark = pytest.mark.anyio

SUBJECT = "_SCHEMA.calc.x"
TYPE = "io.natsery.v1.schema_response"


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
async def nc() -> AsyncIterator[Connection]:
    async with MemoryBroker() as broker, broker.connect() as nc:
        yield nc


async def total(body: int) -> int:
    return body


def info(*subjects: str, serves: str = TYPE, **fields) -> bytes:
    endpoints = [
        {"name": "add", "subject": "add"},
        *({"name": "_schema", "subject": each, "metadata": {"serves": serves}} for each in subjects),
    ]
    return json.dumps({"name": "calc", "id": "x", "version": "1.0.0", "endpoints": endpoints, **fields}).encode()


def document(**fields) -> bytes:
    return json.dumps({"name": "calc", "id": "x", "version": "1.0.0", "type": TYPE, "endpoints": [], **fields}).encode()


@asynccontextmanager
async def answering(nc: Connection, replies: dict[str, list[bytes]]) -> AsyncIterator[list[Message]]:
    """Answer what is sent to subjects, and keep what is sent to any."""
    seen: list[Message] = []

    async def answer(messages) -> None:
        async for message in messages:
            seen.append(message)
            for reply in replies.get(message.subject, []):
                await nc.publish(message.reply, reply)

    async with nc.subscribe(">") as messages, anyio.create_task_group() as tasks:
        tasks.start_soon(answer, messages)
        yield seen
        tasks.cancel_scope.cancel()


async def test_it_is_read(nc: Connection) -> None:
    async with bounded(), natsery.serve(nc, config(total, add, id="x", schemas=True, description="Sums")):
        client = natsery.ServiceClient(nc)
        schema = await client.schema("calc")
        assert (schema.name, schema.id, schema.version, schema.description) == ("calc", "x", "1.0.0", "Sums")
        first, second = schema.endpoints
        assert (first.name, first.subject, first.content_type) == ("total", "total", "application/json")
        assert first.request == first.response
        assert first.request["type"] == "integer"
        assert first.digest.startswith("sha256:")
        assert (second.request, second.response, second.digest, second.content_type) == (None, None, None, None)
        assert json.loads(schema.raw) == schema.to_dict()
        assert (await client.schema("calc", endpoint="total")).endpoints == (first,)
        assert (await client.schema("calc", "x", endpoint="add")).endpoints == (second,)


async def test_what_is_not_there(nc: Connection) -> None:
    client = natsery.ServiceClient(nc)
    async with bounded(), natsery.serve(nc, config(add, total, id="x", schemas=True)):
        async with natsery.serve(nc, natsery.ServiceConfig("plain", "1.0.0", endpoints=[add])):
            with pytest.raises(natsery.NoRespondersError):
                await client.schema("nobody")
            with pytest.raises(natsery.NoRespondersError):
                await client.schema("calc", "y")
            with pytest.raises(
                UnknownEndpointError, match=r"it serves no schemas; write ServiceConfig\(schemas=True\)"
            ):
                await client.schema("plain")
            with pytest.raises(
                UnknownEndpointError, match=r"'sub': there is none of that name; it has 'add', 'total'$"
            ):
                await client.schema("calc", endpoint="sub")
            with pytest.raises(ValueError, match="name: must be"):
                await client.schema("a.b")


async def test_an_instance_without_schemas_does_not_hide_another(nc: Connection) -> None:
    async with bounded(), natsery.serve(nc, config(add)), natsery.serve(nc, config(add, schemas=True, id="x")):
        assert (await natsery.ServiceClient(nc).schema("calc")).id == "x"


@pytest.mark.parametrize(
    "subject",
    [
        "$JS.API.STREAM.DELETE._SCHEMA.calc.x",
        "orders.new",
        "_SCHEMA.calc.y",
        "_SCHEMA.other.x",
        "_SCHEMA.calc.>",
        "MY_SCHEMA.calc.x",
        "a b._SCHEMA.calc.x",
    ],
)
async def test_no_message_goes_where_a_peer_likes(nc: Connection, subject: str) -> None:
    """An empty message to another subject could do anything, such as delete a stream."""
    async with bounded(), answering(nc, {"$SRV.INFO.calc": [info(subject)]}) as seen:
        with pytest.raises(UnknownEndpointError, match="it serves no schemas"):
            await natsery.ServiceClient(nc).schema("calc")
        assert [each.subject for each in seen if "INFO" not in each.subject and "INBOX" not in each.subject] == []


async def test_the_subject_may_be_mapped_below_a_prefix(nc: Connection) -> None:
    subject = f"their.{SUBJECT}"
    async with bounded(), answering(nc, {"$SRV.INFO.calc": [info(subject)], subject: [document()]}):
        assert (await natsery.ServiceClient(nc).schema("calc")).endpoints == ()


async def test_the_endpoint_is_known_by_its_metadata(nc: Connection) -> None:
    async with bounded(), answering(nc, {"$SRV.INFO.calc": [info(SUBJECT, serves="dinner")], SUBJECT: [document()]}):
        with pytest.raises(UnknownEndpointError, match="it serves no schemas"):
            await natsery.ServiceClient(nc).schema("calc")


async def test_odd_documents_are_read_as_far_as_they_can_be(nc: Connection) -> None:
    deep = b'{"a":' * 5_000 + b"1" + b"}" * 5_000
    odd = document(
        endpoints=[
            {"name": "a", "subject": "a", "request": True, "response": False, "stream": 1, "digest": None, "more": 1},
            {"name": "b", "subject": "b", "request": [1], "response": {"title": "\ud800"}, "stream": True},
            {"name": "c", "subject": 1},
            7,
        ],
        description=None,
    )
    nested = document(endpoints=[{"name": "a", "subject": "a", "request": "DEEP"}]).replace(b'"DEEP"', deep)
    for data, check in ((odd, _check_odd), (nested, _check_nested)):
        async with bounded(), answering(nc, {"$SRV.INFO.calc": [info(SUBJECT)], SUBJECT: [data]}):
            check(await natsery.ServiceClient(nc).schema("calc"))


def _check_odd(schema: natsery.ServiceSchema) -> None:
    first, second = schema.endpoints
    assert (first.request, first.response, first.stream, first.content_type) == ({}, {"not": {}}, False, None)
    assert (second.request, second.response, second.stream) == (None, {"title": "?"}, True)


def _check_nested(schema: natsery.ServiceSchema) -> None:
    depth, part = 0, schema.endpoints[0].request
    while part:
        depth, part = depth + 1, part["a"]
    assert 90 <= depth <= 100


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not JSON"),
        (b"[]", "not a JSON object"),
        (document(type="io.nats.micro.v2.schemas"), "type is 'io.nats.micro.v2.schemas'"),
        (document(id="y"), "answered with the schemas of another service, 'calc'"),
        (ServiceInfo(name="calc", id="x", version="1.0.0").to_json(), "type is"),
    ],
)
async def test_other_answers_are_errors(nc: Connection, data: bytes, reason: str) -> None:
    async with bounded(), answering(nc, {"$SRV.INFO.calc": [info(SUBJECT)], SUBJECT: [data]}):
        with pytest.raises(MalformedReplyError, match=reason):
            await natsery.ServiceClient(nc).schema("calc")


@pytest.mark.parametrize("endpoint", [None, "add"])
async def test_an_error_of_the_service_is_raised(nc: Connection, endpoint: str | None) -> None:
    asked: list[bytes] = []

    async def refuse(request: natsery.Request) -> bytes:
        asked.append(request.data)
        raise ServiceError(403, "not for you")

    stub = natsery.ServiceConfig("stub", "1.0.0", endpoints=[natsery.EndpointConfig("s", refuse, subject=SUBJECT)])
    async with bounded(), natsery.serve(nc, stub), answering(nc, {"$SRV.INFO.calc": [info(SUBJECT)]}):
        with pytest.raises(ServiceError, match="403:not for you"):
            await natsery.ServiceClient(nc).schema("calc", endpoint=endpoint)
    assert asked == [b"" if endpoint is None else b"add"]


async def test_an_endpoint_that_is_removed_between_pieces_is_left_out(nc: Connection) -> None:
    async def answer(request: natsery.Request) -> bytes:
        if not request.data:
            raise ServiceError(413, "Schema Too Large")
        if request.data == b"add":
            raise ServiceError(404, "No Such Endpoint")
        name = request.data.decode()
        return document(endpoints=[{"name": name, "subject": name}])

    more = [{"name": name, "subject": name} for name in ("sub", "add", "div")]
    own = {"name": "_schema", "subject": SUBJECT, "metadata": {"serves": TYPE}}
    stub = natsery.ServiceConfig("stub", "1.0.0", endpoints=[natsery.EndpointConfig("s", answer, subject=SUBJECT)])
    async with bounded(), natsery.serve(nc, stub):
        async with answering(nc, {"$SRV.INFO.calc": [info(endpoints=[*more, own])]}):
            schema = await natsery.ServiceClient(nc).schema("calc")
    assert [each.name for each in schema.endpoints] == ["sub", "div"]


async def test_pieces_have_a_bound(nc: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_schema_request, "MAX_BYTES", 100)
    large = document(description="x" * 200)
    names = [{"name": name, "subject": name} for name in ("a", "b")]
    own = {"name": "_schema", "subject": SUBJECT, "metadata": {"serves": TYPE}}

    async def answer(request: natsery.Request) -> bytes:
        if not request.data:
            raise ServiceError(413, "Schema Too Large")
        return large

    stub = natsery.ServiceConfig("stub", "1.0.0", endpoints=[natsery.EndpointConfig("s", answer, subject=SUBJECT)])
    async with bounded(), natsery.serve(nc, stub):
        async with answering(nc, {"$SRV.INFO.calc": [info(endpoints=[*names, own])]}):
            with pytest.raises(MalformedReplyError, match="the schemas of 'calc' are larger than 100 bytes"):
                await natsery.ServiceClient(nc).schema("calc")
