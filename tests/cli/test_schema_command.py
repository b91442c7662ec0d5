"""``natsery schema``: what a service says of its types, printed whoever says it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio.from_thread
import pytest

import natsery
from natsery._cli import _output
from natsery._cli._exit_codes import Exit
from natsery._cli._format import printable

from ..server import NatsServer
from .conftest import Result
from .shop import SHOP

Run = Callable[..., Result]

SUBJECT = "_SCHEMA.odd.x"
TYPE = "io.natsery.v1.schema_response"


@pytest.fixture(scope="module")
def shop() -> Iterator[str]:
    """The URL of a server with a shop, and a service without schemas."""
    plain = natsery.ServiceConfig("plain", "1.0.0", endpoints=[])
    with NatsServer() as server, anyio.from_thread.start_blocking_portal("trio") as portal:
        with portal.wrap_async_context_manager(natsery.connect(server.url)) as nc:
            with portal.wrap_async_context_manager(natsery.serve(nc, SHOP)):
                with portal.wrap_async_context_manager(natsery.serve(nc, plain)):
                    yield server.url


@contextmanager
def odd(url: str, document: bytes) -> Iterator[None]:
    """Serve a document that is not of natsery's making."""
    own = {"name": "_schema", "subject": SUBJECT, "metadata": {"serves": TYPE}}
    info = json.dumps({"name": "odd", "id": "x", "version": "1.0.0", "endpoints": [own]}).encode()
    replies = {"$SRV.INFO.odd": info, SUBJECT: document}

    async def answer(subject: str, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        async with natsery.connect(url) as nc, nc.subscribe(subject) as messages:
            await nc.flush()
            task_status.started()
            async for message in messages:
                await nc.publish(message.reply, replies[subject])

    with anyio.from_thread.start_blocking_portal("trio") as portal:
        futures = [portal.start_task(answer, subject)[0] for subject in replies]
        yield
        for future in futures:
            future.cancel()


def document(**fields: object) -> bytes:
    fields = {"name": "odd", "id": "x", "type": TYPE, "endpoints": [], **fields}
    return json.dumps(fields, ensure_ascii=False).encode()


def test_the_document_is_printed(run: Run, shop: str) -> None:
    result = run("schema", "shop", url=shop)
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith('{\n  "name": "shop",\n  "id": "one",\n')
    found = json.loads(result.out)
    assert [each["subject"] for each in found["endpoints"]] == ["shop.order", "shop.items", "shop.pet", "echo.*.in.>"]
    line = run("schema", "shop", "--json", "--id", "one", url=shop)
    assert line.out.count("\n") == 1
    assert json.loads(line.out) == found


def test_one_endpoint_is_printed(run: Run, shop: str) -> None:
    for endpoint in ("pet", "shop.pet"):
        result = run("schema", "shop", "--endpoint", endpoint, url=shop)
        assert [each["name"] for each in json.loads(result.out)["endpoints"]] == ["pet"]
    result = run("schema", "shop", "--endpoint", "cat", url=shop)
    reason = "there is none of that name; it has 'order', 'items', 'pet', 'echo'"
    assert result == Result(Exit.NOT_FOUND, "", f"Error: service 'shop', endpoint 'cat': {reason}\n")


def test_asyncapi_is_printed_the_same_each_time(run: Run, shop: str) -> None:
    result = run("schema", "shop", "--asyncapi", url=shop)
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith('{\n  "asyncapi": "3.0.0",\n')
    assert run("schema", "shop", "--asyncapi", url=shop) == result
    assert json.loads(run("schema", "shop", "--asyncapi", "--json", url=shop).out) == json.loads(result.out)
    one = json.loads(run("schema", "shop", "--asyncapi", "--endpoint", "echo", url=shop).out)
    assert [*one["channels"]] == ["echo", "echo.reply"]


def test_what_is_not_there_is_said(run: Run, shop: str) -> None:
    assert run("schema", "nobody", url=shop) == Result(Exit.NOT_FOUND, "", "Error: no service nobody answered\n")
    assert run("schema", "shop", "--id", "two", url=shop) == Result(
        Exit.NOT_FOUND, "", "Error: no instance two of shop answered\n"
    )
    assert run("schema", "plain", url=shop) == Result(
        Exit.NOT_FOUND,
        "",
        "Error: service 'plain', endpoint '_schema': it serves no schemas; write ServiceConfig(schemas=True)\n",
    )


def test_arguments_are_checked(run: Run, shop: str) -> None:
    result = run("schema", "a.b", url=shop)
    assert (result.status, result.err[:12]) == (Exit.USAGE, "Error: NAME:")
    result = run("schema", "shop", "--id", "a.b", url=shop)
    assert (result.status, result.err[:12]) == (Exit.USAGE, "Error: --id:")


def test_a_service_that_does_not_answer(run: Run, nats_server: NatsServer) -> None:
    own = {"name": "_schema", "subject": SUBJECT, "metadata": {"serves": TYPE}}
    info = json.dumps({"name": "odd", "id": "x", "version": "1.0.0", "endpoints": [own]}).encode()

    async def serve(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        async with natsery.connect(nats_server.url) as nc, nc.subscribe("$SRV.INFO.odd") as asked:
            async with nc.subscribe(SUBJECT):
                await nc.flush()
                task_status.started()
                async for message in asked:
                    await nc.publish(message.reply, info)

    with anyio.from_thread.start_blocking_portal("trio") as portal:
        future, _ = portal.start_task(serve)
        result = run("schema", "odd", "--timeout", "0.3", url=nats_server.url)
        future.cancel()
    assert result == Result(Exit.TIMEOUT, "", "Error: no answer in time\n")


@pytest.mark.parametrize("options", [(), ("--json",), ("--asyncapi",), ("--asyncapi", "--json")])
def test_nothing_in_a_document_controls_the_terminal(run: Run, nats_server: NatsServer, options) -> None:
    bad = "e\x1b[31m\x9b31m\x07\u202e\nforged"
    schema = {"title": bad, bad: {bad: [bad]}, "$ref": f"#/$defs/{bad}", "$defs": {bad: {"description": bad}}}
    endpoint = {
        **dict.fromkeys(("name", "subject", "content_type", "digest"), bad),
        "request": schema,
        "response": schema,
    }
    data = document(**dict.fromkeys(("version", "description", bad), bad), endpoints=[endpoint])
    with odd(nats_server.url, data):
        result = run("schema", "odd", *options, url=nats_server.url)
    assert (result.status, result.err) == (0, "")
    assert printable(result.out) == result.out
    assert not any(line.strip().startswith("forged") for line in result.out.splitlines())
    assert "forged" in json.dumps(json.loads(result.out))


@pytest.mark.parametrize("options", [(), ("--asyncapi",)])
def test_depth_and_size_are_bounded(run: Run, nats_server: NatsServer, options) -> None:
    depth = 20_000
    deep = b'{"not":' * depth + b"1" + b"}" * depth
    name = "odd" * 30
    chain = {f"{name}{index}": {"$ref": f"#/$defs/{name}{index + 1}"} for index in range(1_500)}
    many = {"title": "X", "$defs": chain, "allOf": [{"$ref": f"#/$defs/{name}0"}]}
    endpoints = [{"name": "a", "subject": "a", "request": "DEEP", "response": many}]
    endpoints += [{"name": "a", "subject": "a", "request": {"title": "Y", "const": index}} for index in range(3_000)]
    with odd(nats_server.url, document(endpoints=endpoints).replace(b'"DEEP"', deep)):
        result = run("schema", "odd", *options, url=nats_server.url)
    assert (result.status, result.err) == (0, "")
    assert max(len(line) - len(line.lstrip()) for line in result.out.splitlines()) < 250
    assert json.loads(result.out)


def test_other_documents_are_errors(run: Run, nats_server: NatsServer) -> None:
    with odd(nats_server.url, b"\x1b[31m?"):
        result = run("schema", "odd", url=nats_server.url)
    assert (result.status, result.out) == (Exit.FAILED, "")
    assert result.err.startswith("Error: not JSON: ")
    with odd(nats_server.url, document(type="\x1b[31m")):
        result = run("schema", "odd", url=nats_server.url)
    assert (result.status, result.err) == (Exit.FAILED, f"Error: 'odd x': type is '\\x1b[31m', not '{TYPE}'\n")


def test_a_document_that_the_terminal_cannot_show(run: Run, nats_server: NatsServer, monkeypatch) -> None:
    monkeypatch.setattr(_output, "_encoding", lambda: "latin-1")
    with odd(nats_server.url, document(description="多ä")):
        assert '"description": "\\u591aä"' in run("schema", "odd", url=nats_server.url).out
