"""Our service, as the others see it."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import anyio
import pytest

import natsery
from natsery.abc import Connection
from natsery.testing import NatsServer

from .contract import Contract
from .peers import Peer
from .processes import LIMIT, output, serving
from .replies import as_read, as_sent, by_id, plain

pytestmark = pytest.mark.anyio


async def discover(command: list[str], server: NatsServer, service: natsery.Service, count: int = 1) -> dict[str, Any]:
    return json.loads(await output([*command, "discover", server.url, service.name, service.id, str(count)]))


async def request(command: list[str], server: NatsServer, **requests: tuple[str, str]) -> dict[str, Any]:
    """Each request's payload, header and error, as they read them on one connection, one after the other."""
    wanted = json.dumps([[key, *request] for key, request in requests.items()])
    results = json.loads(await output([*command, "request", server.url, wanted]))
    for key, result in results.items():
        results[key] = {"data": "", "traced": None, "error": None, **result}  # jnats leaves out what is empty
        if error := result.get("error"):
            error["code"] = int(error["code"])
    return results


async def test_they_find_two_instances(
    command: list[str], peer: Peer, contract: Contract, nats_server: NatsServer, nc: Connection
) -> None:
    with anyio.fail_after(LIMIT):
        async with natsery.serve(nc, contract.config()) as one, natsery.serve(nc, contract.config()) as other:
            found = await discover(command, nats_server, one, 2)
            for verb, sent in (
                ("PING", [each.ping().to_dict() for each in (one, other)]),
                ("INFO", [each.info().to_dict() for each in (one, other)]),
                ("STATS", [as_sent(each) for each in (one, other)]),
            ):
                expected = [as_read(reply, peer) for reply in sent]
                for target in ("all", "name"):
                    assert by_id(found[verb][target]) == by_id(expected)
                assert by_id(found[verb]["id"]) == by_id(expected[:1])
            # nats-py reads to the millisecond.
            (stats,) = found["STATS"]["id"]
            assert abs(datetime.fromisoformat(stats["started"]) - one.started) < timedelta(milliseconds=1)


async def test_they_call_it(command: list[str], contract: Contract, nats_server: NatsServer, nc: Connection) -> None:
    """The error that is not ASCII comes escaped: unescaped it would be the last that a connection of jnats reads."""
    with anyio.fail_after(LIMIT):
        async with natsery.serve(nc, contract.config()):
            results = await request(
                command,
                nats_server,
                good=(contract.echo, "größe 計算"),
                empty=(contract.echo, ""),
                expected=(contract.fail, "expected"),
                unexpected=(contract.fail, "boom"),
                unicode=(contract.fail, "unicode"),
                after=(contract.echo, "they still read"),
            )
        assert results == {
            "good": {"data": "größe 計算", "traced": "a-1", "error": None},
            "empty": {"data": "", "traced": "a-1", "error": None},
            "expected": {"data": contract.data, "traced": None, "error": {"code": 400, "text": contract.text}},
            "unexpected": {"data": "", "traced": None, "error": {"code": 500, "text": "Internal Server Error"}},
            "unicode": {
                "data": contract.data,
                "traced": None,
                "error": {"code": 400, "text": r"gr\xf6\xdfer als 10: \u6570 \U0001f9ee"},
            },
            "after": {"data": "they still read", "traced": "a-1", "error": None},
        }


async def test_a_request_is_passed_on_to_their_service(
    command: list[str], contract: Contract, nats_server: NatsServer, nc: Connection
) -> None:
    """A handler that returns without an answer sends none: the first answer that they get is the other service's."""

    @natsery.endpoint
    async def door(request: natsery.Request) -> None:
        await nc.publish(contract.echo, request.data, reply=request.reply, headers=request.headers)

    with anyio.fail_after(LIMIT):
        async with (
            serving(command, nats_server.url, contract.to_json()),
            natsery.serve(nc, natsery.ServiceConfig("ours", "1.0.0", endpoints=[door])) as service,
        ):
            results = await request(command, nats_server, passed=("door", "größe 計算"), again=("door", "1"))
            assert results == {
                "passed": {"data": "größe 計算", "traced": "a-1", "error": None},
                "again": {"data": "1", "traced": "a-1", "error": None},
            }
            (stats,) = service.stats().endpoints
            assert (stats.num_requests, stats.num_errors) == (2, 0)


async def test_they_read_its_numbers(
    command: list[str], peer: Peer, contract: Contract, nats_server: NatsServer, nc: Connection
) -> None:
    with anyio.fail_after(LIMIT):
        async with natsery.serve(nc, contract.config(data=peer.needs_data)) as service:

            async def numbers() -> list[tuple[int, int, str]]:
                (stats,) = (await discover(command, nats_server, service))["STATS"]["name"]
                assert plain(stats) == plain(as_read(as_sent(service), peer))
                empty = {"num_requests": 0, "num_errors": 0, "last_error": ""}
                return [
                    tuple(endpoint.get(key, value) for key, value in empty.items()) for endpoint in stats["endpoints"]
                ]

            assert await numbers() == [(0, 0, ""), (0, 0, "")]
            await request(
                command, nats_server, a=(contract.echo, "1"), b=(contract.echo, "2"), c=(contract.fail, "boom")
            )
            await request(command, nats_server, a=(contract.fail, "expected"))
            assert await numbers() == [(2, 0, ""), (2, 2, "400:no such thing")]
            service.reset()
            assert await numbers() == [(0, 0, ""), (0, 0, "")]
