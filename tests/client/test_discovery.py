"""How a collection of replies ends, in memory and in virtual time; and that nothing spoils it."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
import trio
import trio.testing

import natsery
from natsery import EndReason, Message, Replies, ServiceClient
from natsery._client import _replies
from natsery.abc import Connection
from natsery.testing import MemoryBroker

from ..bounds import bounded
from ..calc_service import add
from ..conftest import open_connection
from ..server import NatsServer
from ..virtual_time import in_virtual_time

Script = list[tuple[float, bytes]]


@asynccontextmanager
async def answering(subject: str, script: Script) -> AsyncIterator[tuple[ServiceClient, MemoryBroker]]:
    """A client, and somebody who answers requests with payloads, each so many seconds after the request."""
    async with MemoryBroker() as broker, broker.connect() as nc, broker.connect() as other:
        async with anyio.create_task_group() as tasks:

            async def answer(reply: str, delay: float, payload: bytes) -> None:
                await anyio.sleep(delay)
                await other.publish(reply, payload)

            def deliver(message: Message) -> None:
                for delay, payload in script:
                    tasks.start_soon(answer, message.reply, delay, payload)

            await other.add_subscription(subject, deliver)
            yield ServiceClient(nc), broker
            tasks.cancel_scope.cancel()


def ping_of(number: int) -> bytes:
    return natsery.ServicePing(name="calc", id=f"i{number}", version="1.0.0").to_json()


async def collect(script: Script, **options: Any) -> tuple[Replies[natsery.ServicePing], float]:
    """What a PING finds, and the time that it took."""
    async with answering("$SRV.PING", script) as (client, _):
        begun = trio.current_time()
        found = await client.ping(**options)
        return found, trio.current_time() - begun


@pytest.mark.parametrize(
    ("delays", "options", "ended", "seconds"),
    [
        ([], {}, EndReason.WAIT, 2),
        ([], {"wait": 7, "stall": 1}, EndReason.WAIT, 7),
        ([0.5], {}, EndReason.STALL, 1),
        ([1.75], {}, EndReason.WAIT, 2),
        ([0, 0.25, 0.5], {}, EndReason.STALL, 1),
        ([0, 0.25, 0.5], {"stall": None}, EndReason.WAIT, 2),
        ([0, 0.25, 0.5], {"count": 3}, EndReason.COUNT, 0.5),
        ([0, 0.25, 0.5], {"count": 4}, EndReason.STALL, 1),
        ([3600], {"wait": math.inf, "stall": 60}, EndReason.STALL, 3660),
    ],
)
def test_each_end_comes_when_it_should(
    delays: list[float], options: dict[str, Any], ended: EndReason, seconds: float
) -> None:
    async def main() -> None:
        found, took = await collect([(delay, ping_of(index)) for index, delay in enumerate(delays)], **options)
        assert [each.id for each in found] == [f"i{index}" for index in range(len(delays))]
        assert (found.ended, took) == (ended, pytest.approx(seconds))

    in_virtual_time(main)


def test_what_comes_after_a_stall_is_not_waited_for() -> None:
    async def main() -> None:
        found, took = await collect([(0, ping_of(0)), (0.6, ping_of(1))])
        assert (len(found), found.ended, took) == (1, EndReason.STALL, pytest.approx(0.5))

    in_virtual_time(main)


def test_a_sentinel_ends_it_when_it_comes() -> None:
    async def main() -> None:
        async with answering("count", [(1, b"a"), (2, b"b"), (3, b""), (4, b"c")]) as (client, _):
            begun = trio.current_time()
            async with client.request_many("count", wait=60, sentinel=b"") as replies:
                assert [each.data async for each in replies] == [b"a", b"b"]
            assert (replies.ended, trio.current_time() - begun) == (EndReason.SENTINEL, pytest.approx(3))

    in_virtual_time(main)


def test_nobody_there_is_known_at_once() -> None:
    async def main() -> None:
        async with MemoryBroker() as broker, broker.connect() as nc:
            found = await ServiceClient(nc).stats()
            assert (list(found), found.ended) == ([], EndReason.NO_RESPONDERS)

    assert in_virtual_time(main) == 0


def test_a_reply_that_cannot_be_read_spoils_nothing_and_is_reported() -> None:
    async def main() -> None:
        rubbish = [b"", b"\xff\xfe", b"[]", b"{}", b"null", b"[" * 100_000, b'{"name":"calc","id":7,"version":"1"}']
        wrong_type = natsery.ServiceInfo(name="calc", id="x", version="1.0.0").to_json()
        script = [(0.1, ping_of(0)), *((0.2, each) for each in [*rubbish, wrong_type]), (0.3, ping_of(1))]
        found, _ = await collect(script)
        assert [each.id for each in found] == ["i0", "i1"]
        assert len(found.malformed) == 8
        assert all(isinstance(error, natsery.MalformedReplyError) for error in found.malformed)

    in_virtual_time(main)


def test_a_slow_loop_loses_nothing_that_came_in_time() -> None:
    async def main() -> None:
        script = [(0.1 * index, ping_of(index)) for index in range(30)]
        async with answering("$SRV.PING", script) as (client, _):
            ids = []
            async with client.discover("PING") as replies:
                async for each in replies:
                    await anyio.sleep(10)
                    ids.append(each.id)
            # Up to the wait of two seconds by the time of arrival, however long the loop takes.
            assert ids == [f"i{index}" for index in range(20)]
            assert replies.ended is EndReason.WAIT

    in_virtual_time(main)


def test_a_collection_goes_on_when_the_server_comes_back() -> None:
    async def main() -> None:
        async with answering("$SRV.PING", [(3, ping_of(0))]) as (client, broker):
            (nc, _) = broker._connections
            broker.disconnect(nc)
            async with client.discover("PING", wait=5) as replies, anyio.create_task_group() as tasks:

                async def come_back() -> None:
                    await anyio.sleep(1)
                    broker.reconnect(nc)

                tasks.start_soon(come_back)
                assert (await anext(replies)).id == "i0"

    in_virtual_time(main)


def test_leaving_at_every_step_leaves_no_subscription() -> None:
    async def main() -> None:
        async with answering("$SRV.PING", [(1, ping_of(0)), (2, ping_of(1))]) as (client, broker):
            (nc, _) = broker._connections
            for seconds in (0, 0.5, 1, 1.5, 2, 2.5):
                with anyio.move_on_after(seconds):
                    await client.ping(wait=60, stall=None)
                assert list(nc._active()) == []
                assert not nc._listeners

    in_virtual_time(main)


def instance(number: int) -> natsery.ServiceConfig:
    return natsery.ServiceConfig("calc", "1.0.0", id=f"instance{number}", endpoints=[add])


@asynccontextmanager
async def connections(transport: str, url: str) -> AsyncIterator[tuple[Connection, Connection]]:
    if transport == "memory":
        async with MemoryBroker() as broker, broker.connect() as one, broker.connect() as other:
            yield one, other
    else:
        async with open_connection(transport, url) as one, open_connection(transport, url) as other:
            yield one, other


@pytest.mark.parametrize("transport", ["memory", "native"])
@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_two_hundred_instances_are_found_in_one_call(backend: str, transport: str, nats_server: NatsServer) -> None:
    """The server is busy, and one more who hears the question answers rubbish."""

    async def main() -> None:
        async with bounded(), connections(transport, nats_server.url) as (nc, client):
            async with anyio.create_task_group() as tasks:

                async def keep_busy() -> None:
                    while True:
                        await client.request("add", b"1+2")

                for number in range(200):
                    await tasks.start(natsery.serve_forever, nc, instance(number))
                await nc.add_subscription(
                    "$SRV.STATS.calc", lambda message: tasks.start_soon(nc.publish, message.reply, b"?")
                )
                for _ in range(16):
                    tasks.start_soon(keep_busy)
                await nc.flush()
                found = await ServiceClient(client).stats("calc", wait=30, stall=None, count=201)
                assert sorted(each.id for each in found) == sorted(f"instance{number}" for number in range(200))
                assert (found.ended, len(found.malformed)) == (EndReason.COUNT, 1)
                tasks.cancel_scope.cancel()

    anyio.run(main, backend=backend)


def test_replies_that_were_dropped_are_told_also_when_the_collection_is_complete(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_replies, "MAX_PENDING", 3)

    async def main() -> None:
        async with answering("$SRV.PING", [(number / 100, ping_of(number)) for number in range(5)]) as (client, _):
            async with client.discover("PING", count=5) as replies:
                await anyio.sleep(0.1)
                assert [(await anext(replies)).id for _ in range(3)] == ["i0", "i1", "i2"]
                with pytest.raises(natsery.SlowConsumerError):
                    await anext(replies)
                assert [each async for each in replies] == []
                assert replies.ended is EndReason.COUNT

    in_virtual_time(main)


def test_a_status_that_a_peer_writes_ends_nothing() -> None:
    """One forged 503 among the replies ended the discovery for all."""

    async def main() -> None:
        async with MemoryBroker() as broker, broker.connect() as nc, nc.subscribe("$SRV.PING") as pings:
            async with ServiceClient(nc).discover("PING", count=3) as replies:
                ping = await pings.receive()
                await nc.publish(ping.reply, ping_of(0))
                await nc.flush()
                replies._deliver(natsery.Message(ping.reply, status=503))
                await nc.publish(ping.reply, ping_of(1))
                assert [each.id async for each in replies] == ["i0", "i1"]
            assert replies.ended is EndReason.COUNT

    in_virtual_time(main)


def test_an_instance_that_answers_twice_is_one() -> None:
    """Services that a server imports over two ways were counted twice."""

    async def main() -> None:
        script = [(0.1, ping_of(0)), (0.15, ping_of(1)), (0.2, ping_of(0)), (0.3, ping_of(2)), (0.35, ping_of(0))]
        found, _ = await collect(script)
        assert [each.id for each in found] == ["i0", "i1", "i2"]
        assert [each.id for each in found.repeated] == ["i0", "i0"]
        assert (found.malformed, found.dropped) == ((), 0)
        assert found[:1].repeated == found.sorted(key=lambda each: each.id).repeated == found.repeated
        found, _ = await collect(script, count=3)
        assert ([each.id for each in found], found.ended) == (["i0", "i1"], EndReason.COUNT)

    in_virtual_time(main)


def test_replies_to_a_request_of_ones_own_may_be_equal() -> None:
    async def main() -> None:
        async with answering("many", [(0, ping_of(0)), (0, ping_of(0))]) as (client, _):
            async with client.request_many("many", count=2) as replies:
                assert len([each async for each in replies]) == 2
            assert replies.repeated == []

    in_virtual_time(main)


def test_an_error_in_place_of_a_reply_is_reported_as_that() -> None:
    async def main() -> None:
        headers = natsery.error_headers(500, "Maximum Payload Exceeded")
        async with MemoryBroker() as broker, broker.connect() as nc, nc.subscribe("$SRV.INFO") as infos:
            async with ServiceClient(nc).discover("INFO", count=2) as replies:
                info = await infos.receive()
                await nc.publish(info.reply, b"x" * 1000, headers=headers)
                await nc.publish(info.reply, natsery.ServiceInfo(name="calc", id="one", version="1.0.0").to_json())
                assert [each.id async for each in replies] == ["one"]
            (error,) = replies.malformed
            assert str(error) == "a service answered with the error 500: Maximum Payload Exceeded"
            assert isinstance(error.__cause__, natsery.ServiceError)
            assert (error.__cause__.code, error.__cause__.data) == (500, b"")

    in_virtual_time(main)


def test_one_that_answers_too_often_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was a SlowConsumerError, and the answers of all others were lost with it."""
    monkeypatch.setattr(_replies, "MAX_PENDING", 100)

    async def main() -> None:
        flood = [(0.1, ping_of(0))] * 1_000
        async with answering("$SRV.PING", [(0.05, ping_of(1)), *flood, (0.5, ping_of(2))]) as (client, _):
            async with client.discover("PING") as replies:
                await anyio.sleep(0.2)
                found = await replies._collect()
            assert [each.id for each in found] == ["i1", "i0", "i2"]
            assert len(found.repeated) + found.dropped == 999
            assert found.dropped > 800

    in_virtual_time(main)


def test_what_is_kept_of_replies_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(ping_of(0))
    monkeypatch.setattr(_replies, "MAX_MALFORMED", 5)

    async def main() -> None:
        for name, value in {"MAX_REPLIES": 3, "MAX_BYTES": 3 * size + 1, "MAX_PENDING_BYTES": 3 * size + 1}.items():
            with monkeypatch.context() as patch:
                patch.setattr(_replies, name, value)
                script = [(0, ping_of(number)) for number in range(8)]
                async with answering("$SRV.PING", script) as (client, _):
                    async with client.discover("PING") as replies:
                        await anyio.sleep(0.1)
                        found = await replies._collect()
                    assert (len(found), found.dropped) == (3, 5), name
        with monkeypatch.context() as patch:
            patch.setattr(_replies, "MAX_BYTES", 3 * size + 1)
            found, _ = await collect([(0, ping_of(0))] * 8)
            assert len(found.repeated) == 3
        found, _ = await collect([(0, ping_of(0))] * 8 + [(0, b"?")] * 8)
        assert (len(found), len(found.repeated), len(found.malformed)) == (1, 5, 5)

    in_virtual_time(main)


def test_of_an_instance_with_a_long_name_little_is_kept() -> None:
    """A peer that went on answering with others made a watcher keep all of them."""

    def ping(number: int) -> bytes:
        return natsery.ServicePing(name="n" * 10_000 + str(number), id="i", version="1.0.0").to_json()

    async def main() -> None:
        async with answering("$SRV.PING", [(0, ping(number)) for number in (*range(8), 7)]) as (client, _):
            async with client.discover("PING") as replies:
                found = await replies._collect()
            assert (len(found), len(found.repeated)) == (8, 1)
            assert len(repr(replies._seen)) < 1_000

    in_virtual_time(main)


def test_what_the_connection_has_dropped_is_counted() -> None:
    async def main() -> None:
        async with answering("$SRV.PING", [(0, ping_of(number)) for number in range(8)]) as (client, broker):
            broker.drop(client._nc, ">", 2)
            broker.drop(client._nc, ">", 1)
            found = await client.ping()
            assert (len(found), found.dropped) == (5, 3)

    in_virtual_time(main)


def test_a_reply_that_is_larger_than_what_may_wait_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_replies, "MAX_PENDING_BYTES", 1)

    async def main() -> None:
        found, _ = await collect([(0, ping_of(0)), (0.1, ping_of(1))])
        assert [each.id for each in found] == ["i0", "i1"]

    in_virtual_time(main)


@pytest.mark.parametrize("data", [b'{"name":"calc","id":', b'{"name":"calc"}', b'["' + b"x" * 100_000 + b'"]'])
def test_an_error_keeps_nothing_of_the_reply_that_it_is_about(data: bytes) -> None:
    """Tracebacks and the errors of the JSON reader held each reply: a thousand of 8 MB are many."""

    async def main() -> None:
        found, _ = await collect([(0, data)])
        (error,) = found.malformed
        assert error.__traceback__ is error.__context__ is error.__cause__ is None
        assert len(str(error)) < 1_000

    in_virtual_time(main)


def test_a_stream_that_is_closed_gives_nothing_more() -> None:
    async def main() -> None:
        async with answering("$SRV.PING", [(0, ping_of(1)), (0, ping_of(2))]) as (client, _):
            async with client.discover("PING") as replies:
                assert (await replies.receive()).id in ("i1", "i2")
                for _ in range(2):
                    await replies.aclose()
                with pytest.raises(anyio.ClosedResourceError):
                    await replies.receive()

    in_virtual_time(main)
