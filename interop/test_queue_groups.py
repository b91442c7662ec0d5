"""One queue group, with members of ours and of theirs."""

from __future__ import annotations

import anyio
import pytest

import natsery
from natsery.abc import Connection
from natsery.testing import NatsServer

from .contract import Contract
from .processes import LIMIT, SECONDS, serving

pytestmark = pytest.mark.anyio

REQUESTS = 100


async def test_both_take_part(command: list[str], contract: Contract, nats_server: NatsServer, nc: Connection) -> None:
    client = natsery.ServiceClient(nc)
    with anyio.fail_after(LIMIT):
        async with (
            natsery.serve(nc, contract.config()) as ours,
            serving(command, nats_server.url, contract.to_json()) as (_, theirs),
        ):
            for number in range(REQUESTS):
                assert (await client.request(contract.echo, b"%d" % number)).data == b"%d" % number

            async def counts() -> tuple[int, ...]:
                found = await client.stats(contract.name, count=2, wait=SECONDS, stall=None)
                assert {stats.id for stats in found} == {ours.id, theirs}
                echoes = [each for stats in found for each in stats.endpoints if each.name == "echo"]
                return tuple(endpoint.num_requests for endpoint in echoes)

            while sum(taken := await counts()) < REQUESTS:
                pass  # an implementation may count a request after it has answered it
            assert sum(taken) == REQUESTS
            assert all(taken)
