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
from .processes import LIMIT, output
from .replies import as_sent, by_id, plain

pytestmark = pytest.mark.anyio


async def discover(command: list[str], server: NatsServer, service: natsery.Service, count: int = 1) -> dict[str, Any]:
    return json.loads(await output([*command, "discover", server.url, service.name, service.id, str(count)]))


async def request(command: list[str], server: NatsServer, **requests: tuple[str, str]) -> dict[str, Any]:
    """Each request's payload, header and error, as they read them; an error's code as a number."""
    results = json.loads(await output([*command, "request", server.url, json.dumps(requests)]))
    for result in results.values():
        if result["error"] is not None:
            result["error"]["code"] = int(result["error"]["code"])
    return results


async def test_they_find_two_instances(
    command: list[str], contract: Contract, nats_server: NatsServer, nc: Connection
) -> None:
    with anyio.fail_after(LIMIT):
        async with natsery.serve(nc, contract.config()) as one, natsery.serve(nc, contract.config()) as other:
            found = await discover(command, nats_server, one, 2)
            for target in ("all", "name"):
                assert by_id(found["PING"][target]) == by_id([each.ping().to_dict() for each in (one, other)])
                assert by_id(found["INFO"][target]) == by_id([each.info().to_dict() for each in (one, other)])
                assert by_id(found["STATS"][target]) == by_id([as_sent(each) for each in (one, other)])
            assert by_id(found["PING"]["id"]) == [one.ping().to_dict()]
            assert by_id(found["INFO"]["id"]) == [one.info().to_dict()]
            assert by_id(found["STATS"]["id"]) == by_id([as_sent(one)])
            # nats-py reads to the millisecond.
            (stats,) = found["STATS"]["id"]
            assert abs(datetime.fromisoformat(stats["started"]) - one.started) < timedelta(milliseconds=1)


async def test_they_call_it(command: list[str], contract: Contract, nats_server: NatsServer, nc: Connection) -> None:
    with anyio.fail_after(LIMIT):
        async with natsery.serve(nc, contract.config()):
            results = await request(
                command,
                nats_server,
                good=(contract.echo, "größe 計算"),
                empty=(contract.echo, ""),
                expected=(contract.fail, "expected"),
                unexpected=(contract.fail, "boom"),
            )
        assert results == {
            "good": {"data": "größe 計算", "traced": "a-1", "error": None},
            "empty": {"data": "", "traced": "a-1", "error": None},
            "expected": {"data": contract.data, "traced": None, "error": {"code": 400, "text": contract.text}},
            "unexpected": {"data": "", "traced": None, "error": {"code": 500, "text": "Internal Server Error"}},
        }


async def test_they_read_its_numbers(
    command: list[str], peer: Peer, contract: Contract, nats_server: NatsServer, nc: Connection
) -> None:
    with anyio.fail_after(LIMIT):
        async with natsery.serve(nc, contract.config(data=peer.needs_data)) as service:

            async def numbers() -> list[tuple[int, int, str]]:
                (stats,) = (await discover(command, nats_server, service))["STATS"]["name"]
                assert plain(stats) == plain(as_sent(service))
                keys = ("num_requests", "num_errors", "last_error")
                return [tuple(endpoint[key] for key in keys) for endpoint in stats["endpoints"]]

            assert await numbers() == [(0, 0, ""), (0, 0, "")]
            await request(
                command, nats_server, a=(contract.echo, "1"), b=(contract.echo, "2"), c=(contract.fail, "boom")
            )
            await request(command, nats_server, a=(contract.fail, "expected"))
            assert await numbers() == [(2, 0, ""), (2, 2, "400:no such thing")]
            service.reset()
            assert await numbers() == [(0, 0, ""), (0, 0, "")]
