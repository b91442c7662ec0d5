"""The services of the others, as our client sees them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import anyio
import pytest

import natsery
from natsery.abc import Connection
from natsery.testing import NatsServer

from .contract import Contract
from .peers import Peer
from .processes import LIMIT, SECONDS, serving

pytestmark = pytest.mark.anyio

Numbers = list[tuple[int, int, str]]
Endpoint = TypeVar("Endpoint", natsery.EndpointInfo, natsery.EndpointStats)


def numbers(stats: natsery.ServiceStats) -> Numbers:
    return [(each.num_requests, each.num_errors, each.last_error) for each in in_order(stats.endpoints)]


def in_order(endpoints: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
    """As they were added, which is by name; not every implementation keeps that."""
    return tuple(sorted(endpoints, key=lambda endpoint: endpoint.name))


async def stats_with(
    client: natsery.ServiceClient, instance: str, wanted: Callable[[Numbers], bool]
) -> natsery.ServiceStats:
    """STATS, once it says so: an implementation may count a request after it has answered it."""
    stats = None
    with anyio.move_on_after(SECONDS):
        while True:
            (stats,) = await client.stats("interop", instance, wait=SECONDS)
            if wanted(numbers(stats)):
                break
    assert stats is not None
    return stats


async def test_we_find_two_instances(
    command: list[str], peer: Peer, contract: Contract, nats_server: NatsServer, nc: Connection
) -> None:
    with anyio.fail_after(LIMIT):
        client = natsery.ServiceClient(nc)
        assert list(await client.ping()) == []
        async with (
            serving(command, nats_server.url, contract.to_json()) as (_, one),
            serving(command, nats_server.url, contract.to_json()) as (_, other),
        ):
            for name in (None, contract.name):
                pings = await client.ping(name, count=2, wait=SECONDS, stall=None)
                assert {ping.id for ping in pings} == {one, other}
                assert pings.malformed == ()
                infos = await client.info(name, count=2, wait=SECONDS, stall=None)
                assert {info.id for info in infos} == {one, other}
                assert infos.malformed == ()
                all_stats = await client.stats(name, count=2, wait=SECONDS, stall=None)
                assert {stats.id for stats in all_stats} == {one, other}
                assert all_stats.malformed == ()

            (ping,) = await client.ping(contract.name, one, wait=SECONDS)
            head = {"name": contract.name, "id": one, "version": contract.version}
            metadata = {
                verb: contract.metadata if verb in peer.metadata_in else {} for verb in ("PING", "INFO", "STATS")
            }
            assert ping == natsery.ServicePing(**head, metadata=metadata["PING"])
            (info,) = await client.info(contract.name, one, wait=SECONDS)
            assert replace(info, endpoints=in_order(info.endpoints)) == natsery.ServiceInfo(
                **head,
                metadata=metadata["INFO"],
                description=contract.description,
                endpoints=(
                    natsery.EndpointInfo(
                        name="echo", subject=contract.echo, queue_group="q", metadata=contract.endpoint_metadata
                    ),
                    natsery.EndpointInfo(name="fail", subject=contract.fail, queue_group=contract.failing_queue_group),
                ),
            )
            (stats,) = await client.stats(contract.name, one, wait=SECONDS)
            assert replace(stats, endpoints=in_order(stats.endpoints)) == natsery.ServiceStats(
                **head,
                metadata=metadata["STATS"],
                started=stats.started,
                endpoints=(
                    natsery.EndpointStats(name="echo", subject=contract.echo, queue_group="q", data=peer.data),
                    natsery.EndpointStats(
                        name="fail", subject=contract.fail, queue_group=contract.failing_queue_group, data=peer.data
                    ),
                ),
            )
            # nats.c writes 12:00:00.097 as 12:00:00.97.
            assert timedelta(seconds=-1) < datetime.now(UTC) - stats.started < timedelta(hours=1)


async def test_we_call_them(
    command: list[str], peer: Peer, contract: Contract, nats_server: NatsServer, nc: Connection
) -> None:
    with anyio.fail_after(LIMIT):
        client = natsery.ServiceClient(nc)
        async with serving(command, nats_server.url, contract.to_json()):
            reply = await client.request(contract.echo, "größe 計算".encode(), headers={"Trace": "a-1"})
            assert reply.data.decode() == "größe 計算"
            assert reply.headers["Traced"] == "a-1"
            assert (await client.request(contract.echo)).data == b""

            with pytest.raises(natsery.ServiceError) as caught:
                await client.request(contract.fail, b"expected")
            assert (caught.value.code, caught.value.description) == (400, contract.text)
            assert caught.value.data.decode() == (contract.data if peer.error_data else "")

            for payload, expected in ((b"unicode", peer.unicode), (b"boom", peer.unexpected)):
                with pytest.raises(natsery.ServiceError) as caught:
                    await client.request(contract.fail, payload)
                assert (caught.value.code, caught.value.description) == expected

        # The server learns of the end of a process in its own time.
        while (await client.ping(contract.name)).ended != "no responders":
            pass
        with pytest.raises(natsery.NoRespondersError):
            await client.request(contract.echo)


async def test_we_get_no_answer_that_they_do_not_give(
    command: list[str], contract: Contract, nats_server: NatsServer, nc: Connection
) -> None:
    with anyio.fail_after(LIMIT):
        async with serving(command, nats_server.url, contract.to_json()):
            inbox = nc.new_inbox()
            async with nc.subscribe(inbox) as replies:
                await nc.publish(contract.echo, contract.unanswered.encode(), reply=inbox)
                await nc.publish(contract.echo, b"this one is answered", reply=inbox)
                assert (await replies.receive()).data == b"this one is answered"


async def test_we_read_their_numbers(
    command: list[str], peer: Peer, contract: Contract, nats_server: NatsServer, nc: Connection
) -> None:
    with anyio.fail_after(LIMIT):
        client = natsery.ServiceClient(nc)
        async with serving(command, nats_server.url, contract.to_json()) as (program, instance):

            async def stats_after(*wanted: int) -> natsery.ServiceStats:
                return await stats_with(client, instance, lambda found: tuple(each[0] for each in found) == wanted)

            async def fail(payload: bytes) -> None:
                with pytest.raises(natsery.ServiceError):
                    await client.request(contract.fail, payload)

            before = await stats_after(0, 0)
            for _ in range(3):
                await client.request(contract.echo)
            await fail(b"expected")
            assert numbers(await stats_after(3, 1)) == [(3, 0, ""), (1, *peer.errors[0])]
            await fail(b"boom")
            counted = await stats_after(3, 2)
            assert numbers(counted) == [(3, 0, ""), (2, *peer.errors[1])]
            for endpoint in counted.endpoints:
                average = endpoint.processing_time / endpoint.num_requests
                assert abs(endpoint.average_processing_time - average) <= 1

            await program.do("reset")
            (stats,) = await client.stats(contract.name, instance, wait=SECONDS)
            counts, errors = (before if each in peer.resets else counted for each in ("numbers", "last_error"))
            assert [each[:2] for each in numbers(stats)] == [each[:2] for each in numbers(counts)]
            assert [each[2] for each in numbers(stats)] == [each[2] for each in numbers(errors)]
            assert (stats.started > before.started) == ("started" in peer.resets)
