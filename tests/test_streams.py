"""Streamed replies over every transport and loop, through a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import nats
import pytest

import natsery
from natsery import EndReason, Message, ServiceClient, ServiceError
from natsery.abc import Connection

from .bounds import HANG_SECONDS, bounded
from .calc_service import config
from .conftest import NATIVE, open_connection
from .server import NatsServer

pytestmark = pytest.mark.anyio

MANY = 10_000


@natsery.endpoint
async def count(body: int) -> AsyncIterator[int]:
    for number in range(body):
        yield number


def noting(made: list[int], ended: anyio.Event):
    @natsery.endpoint
    async def noting(body: int) -> AsyncIterator[int]:
        try:
            for number in range(body):
                made.append(number)
                yield number
        finally:
            ended.set()

    return noting


async def test_many_replies_to_a_reader_that_pauses(nc: Connection, transport: str, nats_server: NatsServer) -> None:
    made: list[int] = []
    async with bounded(), open_connection(transport, nats_server.url) as asker:
        async with natsery.serve(nc, config(noting(made, anyio.Event()))) as service:
            async with ServiceClient(asker).stream("noting", MANY, returns=int, window=64) as replies:
                for expected in range(MANY):
                    assert await replies.receive() == expected
                    if expected % 1000 == 0:
                        await nc.flush()
                        assert len(made) <= expected + 1 + 64 + 1
                with pytest.raises(anyio.EndOfStream):
                    await replies.receive()
                assert (replies.ended, replies.dropped) == (EndReason.SENTINEL, 0)
            stats = service.stats().endpoints[0]
            assert (stats.num_requests, stats.num_errors) == (1, 0)


async def test_a_reader_that_leaves_in_the_middle(nc: Connection, transport: str, nats_server: NatsServer) -> None:
    made, ended = [], anyio.Event()
    async with bounded(), open_connection(transport, nats_server.url) as asker:
        async with natsery.serve(nc, config(noting(made, ended))) as service:
            async with ServiceClient(asker).stream("noting", MANY, returns=int) as replies:
                assert [await replies.receive() for _ in range(300)] == list(range(300))
            await ended.wait()
            assert len(made) < MANY
            async with ServiceClient(asker).stream("noting", 3, returns=int) as replies:
                assert [reply async for reply in replies] == [0, 1, 2]
            assert service.stats().endpoints[0].failures == {}


async def test_a_stop_in_the_middle(nc: Connection, transport: str, nats_server: NatsServer) -> None:
    @natsery.endpoint
    async def endless(request: natsery.Request) -> AsyncIterator[bytes]:
        while True:
            yield b"x"

    async with bounded(), open_connection(transport, nats_server.url) as asker, anyio.create_task_group() as tasks:
        service: natsery.Service = await tasks.start(natsery.serve_forever, nc, config(endless))
        async with ServiceClient(asker).stream("endless") as replies:
            for _ in range(300):
                await replies.receive()
            service.stop(grace=0)
            with pytest.raises(ServiceError, match="503:Service Stopping"):
                while True:
                    await replies.receive()
    stats = service.stats().endpoints[0]
    assert (stats.num_requests, stats.failures) == (1, {"stopping": 1})


async def test_a_requester_that_leaves_without_a_word_ends_it_before_the_next_request(
    nc: Connection, transport: str, nats_server: NatsServer
) -> None:
    log: list[str] = []

    @natsery.endpoint
    async def endless(request: natsery.Request) -> AsyncIterator[bytes]:
        log.append("begun")
        try:
            while True:
                yield bytes(1_000)
        finally:
            await anyio.sleep(0)
            log.append("ended")

    async with bounded(), open_connection(transport, nats_server.url) as asker:
        async with natsery.serve(nc, config(endless)) as service:
            for _ in range(3):
                async with ServiceClient(asker).request_many("endless", wait=10) as replies:
                    await replies.receive()
            async with ServiceClient(asker).request_many("endless", wait=10) as replies:
                await replies.receive()
                assert log == ["begun", "ended"] * 3 + ["begun"]
                stats = service.stats().endpoints[0]
                assert (stats.num_requests, stats.num_errors) == (3, 0)


async def test_a_requester_that_acknowledges_nothing_holds_up_nobody_else(
    nc: Connection, transport: str, nats_server: NatsServer
) -> None:
    made: list[int] = []
    held = natsery.EndpointConfig("noting", noting(made, anyio.Event()), concurrency=2)
    async with bounded(), open_connection(transport, nats_server.url) as asker, asker.subscribe("replies") as replies:
        async with natsery.serve(nc, config(held), grace=0) as service:
            await asker.publish("noting", b"1000000", reply="replies", headers={"Reply-Window": "3"})
            assert [(await replies.receive()).data for _ in range(4)] == [b"", b"0", b"1", b"2"]
            made.clear()
            async with ServiceClient(asker).stream("noting", 1_000, returns=int) as others:
                assert [each async for each in others] == list(range(1_000))
            assert (len(made), service.pending) == (1_000, 1)
            service.stop()
            await service.wait_stopped()
        stats = service.stats().endpoints[0]
        assert (stats.num_requests, stats.failures, service.pending) == (2, {"stopping": 1}, 0)


async def test_a_plain_requester_reads_a_stream_whole(nc: Connection, nats_server: NatsServer) -> None:
    async with bounded(), natsery.serve(nc, config(count)):
        async with ServiceClient(nc).request_many("count", b"300", wait=20, sentinel=b"") as replies:
            assert [int(reply.data) async for reply in replies] == list(range(300))
            assert replies.ended is EndReason.SENTINEL


async def test_a_service_that_only_ends_with_an_empty_reply_is_read(nc: Connection) -> None:
    async def many(request: natsery.Request) -> None:
        for number in range(500):
            await request.respond(b"%d" % number)
        await request.respond(b"")

    async with bounded(), natsery.serve(nc, config(many)):
        async with ServiceClient(nc).stream("many", b"", returns=int, window=4) as replies:
            assert [reply async for reply in replies] == list(range(500))


async def test_by_the_function(nc: Connection) -> None:
    client, served = ServiceClient(nc), config(natsery.group("a", [count]))
    async with bounded(), natsery.serve(nc, served):
        async with client.stream(count, 3, service=served) as replies:
            assert [reply async for reply in replies] == [0, 1, 2]
        async with client.stream(count, "x", service=served) as replies:  # type: ignore[arg-type]
            with pytest.raises(ServiceError, match="400:Invalid Body"):
                await replies.receive()
        async with client.stream(count, 3) as replies:
            with pytest.raises(natsery.NoRespondersError):
                await replies.receive()


async def test_a_reply_that_does_not_fit_is_raised(nc: Connection) -> None:
    async with bounded(), natsery.serve(nc, config(count)):
        async with ServiceClient(nc).stream("count", 3, returns=str) as replies:
            with pytest.raises(natsery.MalformedReplyError, match="does not fit str"):
                await replies.receive()


async def test_a_reply_that_is_missing_is_raised(nc: Connection) -> None:
    async with bounded(), nc.subscribe("lossy") as requests:
        async with ServiceClient(nc).stream("lossy") as replies:
            request = await requests.receive()
            assert request.headers["Reply-Window"] == "128"
            inbox = nc.new_inbox()
            await nc.publish(request.reply, reply=f"{inbox}.0", headers={"Reply-Window": "128"})
            await nc.publish(request.reply, b"1", reply=f"{inbox}.1")
            await nc.publish(request.reply, b"4", reply=f"{inbox}.4")
            assert (await replies.receive()).data == b"1"
            with pytest.raises(
                natsery.ConnectionLostError, match="replies 2 to 3 of the stream on 'lossy' did not arrive"
            ):
                await replies.receive()


@pytest.mark.parametrize("subject", ["$SRV.PING.0", "$SYS.x.0", "a.*.0", "a..0", "x"])
async def test_a_service_cannot_have_a_client_publish_anywhere(nc: Connection, subject: str) -> None:
    async with bounded(), nc.subscribe("hostile") as requests, nc.subscribe("$SRV.PING.0") as pings:
        async with ServiceClient(nc).stream("hostile", window=2) as replies:
            request = await requests.receive()
            replies._deliver(Message(request.reply, b"", subject, natsery.Headers({"Reply-Window": "2"})))
            for number in range(8):
                replies._deliver(Message(request.reply, b"x", f"{subject[:-1]}{number}"))
            for _ in range(8):
                await replies.receive()
        await nc.flush()
        assert not pings._pending


async def test_a_connection_that_ends_is_an_error_and_no_end(transport: str) -> None:
    @natsery.endpoint
    async def waiting(request: natsery.Request) -> AsyncIterator[bytes]:
        yield b"first"
        await anyio.sleep_forever()

    with NatsServer() as server:
        async with bounded(), open_connection(transport, server.url) as asker:
            async with natsery.connect(server.url) as nc, natsery.serve(nc, config(waiting), grace=0):
                async with ServiceClient(asker).stream("waiting") as replies:
                    assert (await replies.receive()).data == b"first"
                    server.restart()
                    with pytest.raises(natsery.ConnectionLostError, match="ended before the stream did"):
                        await replies.receive()


async def test_cancelled_readers_lose_nothing(nc: Connection) -> None:
    async with bounded(), natsery.serve(nc, config(count)):
        async with ServiceClient(nc).stream("count", 2_000, returns=int, window=8) as replies:
            received: list[int] = []
            while len(received) < 2_000:
                with anyio.CancelScope() as scope:
                    if len(received) % 3 == 0:
                        scope.cancel()
                    received.append(await replies.receive())
                if scope.cancelled_caught:
                    received.append(await replies.receive())
            assert received == list(range(2_000))


PERMISSIONS = """
    authorization { users: [
        { user: service, password: x }
        { user: asker, password: x, permissions: { publish: ["count"], subscribe: ["_INBOX.>"] } }
        { user: answering, password: x, permissions: { publish: ["count"], subscribe: ["_INBOX.>"], allow_responses: { max: -1 } } }
    ] }
"""


@NATIVE
async def test_what_permissions_a_requester_needs() -> None:
    with NatsServer(PERMISSIONS) as server:
        url = server.url.replace("nats://", "nats://{}:x@")
        async with bounded(), natsery.connect(url.format("service")) as nc, natsery.serve(nc, config(count)):
            async with natsery.connect(url.format("answering")) as asker:
                async with ServiceClient(asker).stream("count", 500, returns=int, window=4) as replies:
                    assert len([reply async for reply in replies]) == 500
            async with natsery.connect(url.format("asker")) as asker:
                async with ServiceClient(asker).stream("count", 500, returns=int, window=4) as replies:
                    with pytest.raises(natsery.PublishDeniedError, match="_INBOX"):
                        _ = [reply async for reply in replies]


ACCOUNTS = """
    accounts {
        SERVER: { users: [{ user: service, password: x }], exports: [{ service: noting, response: stream }] }
        CLIENT: { users: [{ user: asker, password: x }], imports: [{ service: { account: SERVER, subject: noting } }] }
    }
"""


@NATIVE
async def test_a_window_reaches_a_service_of_another_account() -> None:
    """The server writes other reply subjects into what crosses, and takes acknowledgements back."""
    made, ended = [], anyio.Event()
    with NatsServer(ACCOUNTS) as server:
        url = server.url.replace("nats://", "nats://{}:x@")
        async with bounded(), natsery.connect(url.format("service")) as nc:
            async with natsery.connect(url.format("asker")) as asker, natsery.serve(nc, config(noting(made, ended))):
                async with ServiceClient(asker).stream("noting", 500, returns=int, window=4) as replies:
                    for expected in range(400):
                        assert await replies.receive() == expected
                        assert len(made) <= expected + 1 + 4 + 1
                await ended.wait()
                assert len(made) < 410


ACROSS_ACCOUNTS = """
    accounts {
        SERVER: { users: [{ user: service, password: x }], exports: [{ service: count, response: stream }] }
        CLIENT: {
            users: [
                { user: asker, password: x, permissions: { publish: ["count", "_INBOX.>"] } }
                { user: allowed, password: x, permissions: { publish: ["count", "_R_.>"] } }
                { user: answering, password: x, permissions: { publish: ["count"], allow_responses: { max: -1 } } }
            ]
            imports: [{ service: { account: SERVER, subject: count } }]
        }
    }
"""


async def test_what_permissions_a_requester_in_another_account_needs(transport: str) -> None:
    """The error named the inboxes of services, which are no subjects in the account of the requester."""
    with NatsServer(ACROSS_ACCOUNTS) as server:
        url = server.url.replace("nats://", "nats://{}:x@")
        async with bounded(60), natsery.connect(url.format("service")) as nc, natsery.serve(nc, config(count)):
            for user in ("allowed", "answering"):
                async with open_connection(transport, url.format(user)) as asker:
                    async with ServiceClient(asker).stream("count", 500, returns=int, window=4) as replies:
                        assert len([reply async for reply in replies]) == 500
            async with open_connection(transport, url.format("asker")) as asker:
                async with ServiceClient(asker).stream("count", 500, returns=int, window=4) as replies:
                    with pytest.raises(natsery.PublishDeniedError, match=r"'_R_\.>'"):
                        _ = [reply async for reply in replies]


async def test_nats_py_reads_a_stream(nats_server: NatsServer) -> None:
    async def main() -> list[bytes]:
        client = await nats.connect(nats_server.url)
        inbox = client.new_inbox()
        subscription = await client.subscribe(inbox)
        await client.publish("count", b"5", reply=inbox)
        replies = [(await subscription.next_msg(timeout=HANG_SECONDS)).data for _ in range(6)]
        await client.close()
        return replies

    import asyncio

    async with bounded(), natsery.connect(nats_server.url) as nc, natsery.serve(nc, config(count)):
        assert await anyio.to_thread.run_sync(lambda: asyncio.run(main())) == [b"0", b"1", b"2", b"3", b"4", b""]
