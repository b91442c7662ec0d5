"""A service through a real server: on every backend and transport."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import jsonschema
import pytest

import natsery
from natsery.abc import Connection, Message

from .server import NatsServer

pytestmark = pytest.mark.anyio

SCHEMAS = {path.stem: json.loads(path.read_text()) for path in (Path(__file__).parent / "schemas").glob("*.json")}


@natsery.endpoint(concurrency=4)
async def add(request: natsery.Request) -> bytes:
    try:
        a, b = map(int, request.data.split(b"+"))
    except ValueError:
        raise natsery.ServiceError(400, "expected 'a+b'") from None
    return str(a + b).encode()


def config(*endpoints, **options) -> natsery.ServiceConfig:
    return natsery.ServiceConfig("calc", "1.0.0", endpoints=endpoints, **options)


@asynccontextmanager
async def bounded(seconds: float = 20) -> AsyncIterator[None]:
    with anyio.fail_after(seconds):
        yield


def error_of(reply: Message) -> str | None:
    error = natsery.service_error(reply.data, reply.headers)
    return None if error is None else str(error)


async def nothing_left(nc: Connection, server: NatsServer) -> bool:
    """Whether the server knows of no subscription of this connection but inboxes."""
    await nc.flush()
    client_id = nc.client.client_id if hasattr(nc, "client") else nc.server_info.client_id
    return all(each.startswith("_INBOX.") for each in server.subscriptions(client_id))


async def test_it_answers_requests_and_the_three_verbs(nc: Connection) -> None:
    async with bounded(), natsery.serve(nc, config(natsery.group("math", [add]), metadata={"a": "ü"})) as service:
        assert (await nc.request("math.add", b"1+2")).data == b"3"
        assert error_of(await nc.request("math.add", b"x")) == "400:expected 'a+b'"
        for verb, cls in (
            ("PING", natsery.ServicePing),
            ("INFO", natsery.ServiceInfo),
            ("STATS", natsery.ServiceStats),
        ):
            for subject in (f"$SRV.{verb}", f"$SRV.{verb}.calc", f"$SRV.{verb}.calc.{service.id}"):
                reply = await nc.request(subject, b"{}", headers={"Accept-Encoding": "none"})
                assert not len(reply.headers)
                schema = {**SCHEMAS[f"{verb.lower()}_response"], "additionalProperties": False}
                schema["properties"] = {**schema["properties"], "type": {}}
                jsonschema.validate(json.loads(reply.data), schema)
                assert cls.from_json(reply.data).id == service.id
    stats = service.stats().endpoints[0]
    assert (stats.num_requests, stats.num_errors, stats.last_error) == (2, 1, "400:expected 'a+b'")


async def test_an_unexpected_exception_stays_inside(nc: Connection, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[tuple[Exception, str]] = []

    async def broken(request: natsery.Request) -> bytes:
        raise LookupError("a secret")

    async def hear(error: Exception, endpoint: natsery.Endpoint | None) -> None:
        assert endpoint is not None
        heard.append((error, endpoint.name))

    async with bounded(), natsery.serve(nc, config(broken, add, error_handler=hear)):
        reply = await nc.request("broken")
        assert error_of(reply) == "500:Internal Server Error"
        assert b"secret" not in reply.data
        assert (await nc.request("add", b"1+1")).data == b"2"
    assert [(str(error), name) for error, name in heard] == [("a secret", "broken")]
    assert "a secret" in caplog.text


async def test_four_requests_at_a_concurrency_of_four_run_at_once(nc: Connection) -> None:
    together = anyio.Event()
    inside = 0

    @natsery.endpoint(concurrency=4)
    async def meet(request: natsery.Request) -> bytes:
        nonlocal inside
        inside += 1
        if inside == 4:
            together.set()
        await together.wait()
        return b"met"

    async with bounded(), natsery.serve(nc, config(meet)), anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(nc.request, "meet")


async def test_a_full_queue_is_refused_with_an_answer(nc: Connection) -> None:
    release = anyio.Event()
    replies: list[str | None] = []

    @natsery.endpoint(pending_messages=2)
    async def slow(request: natsery.Request) -> None:
        started.set()
        await release.wait()

    async def ask() -> None:
        replies.append(error_of(await nc.request("slow")))
        if len(replies) == 7:
            release.set()

    started = anyio.Event()
    async with bounded(), natsery.serve(nc, config(slow)) as service, anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await started.wait()
        for _ in range(9):
            tasks.start_soon(ask)
    assert replies == ["503:Service Overloaded"] * 7 + [None] * 3
    stats = service.stats().endpoints[0]
    assert (stats.num_requests, stats.num_errors) == (10, 7)
    assert stats.failures == {"overloaded": 7}


async def test_a_burst_at_an_idle_endpoint_fills_its_queue_and_its_worker(nc: Connection) -> None:
    """The request that the worker was about to take counted as waiting, so that one too many was refused."""
    release = anyio.Event()

    @natsery.endpoint(pending_messages=2)
    async def slow(request: natsery.Request) -> None:
        await release.wait()

    async with bounded(), natsery.serve(nc, config(slow)) as service, nc.subscribe("burst") as replies:
        for round_ in (1, 2):  # the worker is new, then it rests
            for _ in range(10):
                await nc.publish("slow", reply="burst")
            for _ in range(7):
                assert error_of(await replies.receive()) == "503:Service Overloaded"
            release.set()
            for _ in range(3):
                assert error_of(await replies.receive()) is None
            release = anyio.Event()
            assert service.stats().endpoints[0].num_errors == 7 * round_


async def test_a_deadline_that_passes_is_answered_with_504(nc: Connection) -> None:
    @natsery.endpoint(timeout=0.05)
    async def slow(request: natsery.Request) -> None:
        await anyio.sleep_forever()

    async with bounded(), natsery.serve(nc, config(slow)):
        assert error_of(await nc.request("slow")) == "504:Deadline Exceeded"


async def test_a_reply_that_is_too_large_becomes_an_error(nc: Connection) -> None:
    async def large(request: natsery.Request) -> bytes:
        return bytes(nc.max_payload + 1)

    async def largest(request: natsery.Request) -> bytes:
        return bytes(nc.max_payload)

    async def headers_on_top(request: natsery.Request) -> None:
        await request.respond(bytes(nc.max_payload), headers={"a": "b"})

    async def large_error(request: natsery.Request) -> bytes:
        raise natsery.ServiceError(418, "x" * nc.max_payload)

    async with bounded(), natsery.serve(nc, config(large, largest, headers_on_top, large_error)) as service:
        assert error_of(await nc.request("large")) == "500:Maximum Payload Exceeded"
        assert len((await nc.request("largest")).data) == nc.max_payload
        assert error_of(await nc.request("headers_on_top")) == "500:Maximum Payload Exceeded"
        assert error_of(await nc.request("large_error")) == "500:Maximum Payload Exceeded"
    assert [each.num_errors for each in service.stats().endpoints] == [1, 0, 1, 1]


@pytest.mark.parametrize("reply", ["$SRV.PING", "$SYS.x", "$JS.x", "a.*", "a.>"])
async def test_replies_that_aim_are_not_answered(nc: Connection, reply: str) -> None:
    called = False

    async def touch(request: natsery.Request) -> None:
        nonlocal called
        called = True

    async with bounded(), natsery.serve(nc, config(touch, add)) as service:
        await nc.send("touch", reply=reply)
        await nc.send("$SRV.PING", reply=reply)
        await nc.request("add", b"1+1")
    assert not called
    stats = service.stats().endpoints[0]
    assert (stats.num_requests, stats.malformed) == (0, 1)


async def test_the_ways_to_answer(nc: Connection) -> None:
    async def nothing(request: natsery.Request) -> None:
        pass

    async def twice(request: natsery.Request) -> None:
        await request.respond(b"1", headers={"A": "b"})
        await request.respond_json({"n": 2})

    async def error(request: natsery.Request) -> None:
        await request.respond_error(409, "line\none", b"body", headers={"Nats-Service-Error": "mine"})

    async def text(request: natsery.Request) -> bytes:
        return "text"  # type: ignore[return-value]

    async def tokens(request: natsery.Request) -> bytes:
        return ",".join(request.tokens).encode()

    wild = natsery.EndpointConfig("wild", tokens, subject="wild.*.x.>")
    async with bounded(), natsery.serve(nc, config(nothing, twice, error, text, wild)):
        assert (await nc.request("nothing")).data == b""
        async with nc.subscribe("answers") as answers:
            await nc.publish("twice", reply="answers")
            assert (await answers.receive()).headers["a"] == "b"
            assert (await answers.receive()).data == b'{"n":2}'
        reply = await nc.request("error")
        assert (error_of(reply), reply.data) == ("409:line one", b"body")
        assert error_of(await nc.request("text")) == "500:Internal Server Error"
        assert (await nc.request("wild.7.x.a.b")).data == b"7,a,b"


async def test_the_books_balance_per_cause(nc: Connection, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL", "natsery")
    held = anyio.Event()

    async def mixed(request: natsery.Request) -> bytes:
        kind = request.data[:1]
        if kind == b"s":
            raise natsery.ServiceError(404, "not found")
        if kind == b"x":
            raise KeyError("unexpected")
        return b"ok"

    @natsery.endpoint(timeout=0.02)
    async def slow(request: natsery.Request) -> bytes:
        await anyio.sleep_forever()
        return b""

    @natsery.endpoint(pending_messages=1)
    async def stuck(request: natsery.Request) -> bytes:
        held.set()
        await anyio.sleep_forever()
        return b""

    served = natsery.serve(nc, config(mixed, slow, stuck), grace=0)
    async with bounded(60), nc.subscribe("books") as replies, served as service:
        for _ in range(2_500):
            await nc.publish("mixed", b"g")
            for kind in (b"g", b"s", b"x"):
                await nc.publish("mixed", kind, reply="books")
        await nc.publish("stuck", reply="books")
        await held.wait()
        for _ in range(9):
            await nc.publish("stuck", reply="books")
        for _ in range(10):
            await nc.publish("slow", reply="books")
        for _ in range(3 * 2_500 + 8 + 10):  # all but the two that only the end of the service answers
            await replies.receive()
    mixed_stats, slow_stats, stuck_stats = service.stats().endpoints
    assert (mixed_stats.num_requests, mixed_stats.num_errors) == (10_000, 7_500)
    assert mixed_stats.failures == {"service_error": 2_500, "exception": 2_500, "undeliverable": 2_500}
    assert (slow_stats.num_requests, slow_stats.failures) == (10, {"timeout": 10})
    assert stuck_stats.num_requests == stuck_stats.num_errors == 10
    assert stuck_stats.failures == {"overloaded": 8, "stopping": 2}


async def test_the_stats_handler_gives_data_and_may_fail(nc: Connection) -> None:
    async def data(stats: natsery.EndpointStats) -> object:
        if stats.name == "add":
            raise RuntimeError("no data")
        return {"seen": stats.num_requests}

    async def other(request: natsery.Request) -> None:
        pass

    async with bounded(), natsery.serve(nc, config(add, other, stats_handler=data)) as service:
        first, second = json.loads((await nc.request("$SRV.STATS.calc")).data)["endpoints"]
        assert "data" not in first
        assert second["data"] == {"seen": 0}
        await nc.request("other")
        service.reset()
        assert service.stats().endpoints[1].num_requests == 0


async def test_endpoints_come_and_go_while_it_runs(nc: Connection, nats_server: NatsServer) -> None:
    async with bounded(), natsery.serve(nc, config()) as service:
        group = service.add_group("a").add_group("", queue_group="z").add_group("b")
        endpoint = await group.add_endpoint(add)
        assert (endpoint.subject, endpoint.queue_group) == ("a.b.add", "z")
        assert (await nc.request("a.b.add", b"1+1")).data == b"2"
        await endpoint.remove()
        await endpoint.remove()
        assert service.info().endpoints == ()
        with pytest.raises(natsery.NoRespondersError):
            await nc.request("a.b.add", b"1+1")
    with pytest.raises(natsery.ServiceStoppedError):
        await service.add_endpoint(add)
    async with bounded():
        assert await nothing_left(nc, nats_server)


async def test_two_services_share_a_connection(nc: Connection) -> None:
    async with bounded(), natsery.serve(nc, config(add)) as first:
        other = natsery.ServiceConfig("other", "1.0.0", endpoints=[natsery.EndpointConfig("plus", add)])
        async with natsery.serve(nc, other):
            pass
        assert (await nc.request("add", b"1+1")).data == b"2"
    assert first.stats().endpoints[0].num_requests == 1


async def test_a_middleware_stands_around_handlers(nc: Connection) -> None:
    async def outer(request: natsery.Request, call_next) -> bytes | None:
        return b"<" + (await call_next(request) or b"") + b">"

    async with bounded(), natsery.serve(nc, config(add, middlewares=[outer])):
        assert (await nc.request("add", b"1+1")).data == b"<2>"
