"""A service through a real server: on every backend and transport."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

import natsery
from natsery.abc import Connection

from .bounds import bounded
from .calc_service import add, config, error_of
from .server import NatsServer, nothing_left

pytestmark = pytest.mark.anyio

SCHEMAS = {path.stem: json.loads(path.read_text()) for path in (Path(__file__).parent / "schemas").glob("*.json")}


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


async def test_the_ways_to_answer(nc: Connection) -> None:
    async def empty(request: natsery.Request) -> bytes:
        return b""

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
    async with bounded(), natsery.serve(nc, config(empty, twice, error, text, wild)):
        assert (await nc.request("empty")).data == b""
        async with nc.subscribe("answers") as answers:
            await nc.publish("twice", reply="answers")
            assert (await answers.receive()).headers["a"] == "b"
            assert (await answers.receive()).data == b'{"n":2}'
        reply = await nc.request("error")
        assert (error_of(reply), reply.data) == ("409:line one", b"body")
        assert error_of(await nc.request("text")) == "500:Internal Server Error"
        assert (await nc.request("wild.7.x.a.b")).data == b"7,a,b"


async def test_endpoints_come_and_go_while_it_runs(nc: Connection, nats_server: NatsServer) -> None:
    async with bounded(), natsery.serve(nc, config()) as service:
        group = service.add_group("a").add_group("", queue_group="z").add_group("b")
        endpoint = await group.add_endpoint(add)
        assert (endpoint.subject, endpoint.queue_group) == ("a.b.add", "z")
        assert (await nc.request("a.b.add", b"1+1")).data == b"2"
        await endpoint.remove()
        await endpoint.remove()
        assert service.info().endpoints == ()
        assert service.info().description == ""
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


async def test_what_a_handler_publishes_comes_before_its_answer(nc: Connection, nats_server: NatsServer) -> None:
    async def progress(request: natsery.Request) -> bytes:
        for step in range(int(request.data)):
            await nc.publish(request.reply, b"%d" % step)
        return b"done"

    async with bounded(), natsery.serve(nc, config(progress)), natsery.connect(nats_server.url) as caller:
        async with caller.subscribe("answers") as answers:
            for steps in (0, 1, 3, 0, 0, 2, 300, 0):
                await caller.publish("progress", b"%d" % steps, reply="answers")
                expected = [*(b"%d" % step for step in range(steps)), b"done"]
                assert [(await answers.receive()).data for _ in expected] == expected
