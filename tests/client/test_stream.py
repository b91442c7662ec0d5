"""What a reader of streamed replies does when something is missing, late, or denied; the other side is played by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

import natsery
from natsery import ConnectionLostError, EndReason, Message, ReplyStream, ServiceClient, ServiceError
from natsery.abc import Connection
from natsery.testing import MemoryBroker
from natsery.testing._memory_connection import MemoryConnection

from ..bounds import bounded
from ..calc_service import config
from ..virtual_time import VIRTUAL_BACKENDS

pytestmark = pytest.mark.anyio

INBOX = "_INBOX.service.token"


@pytest.fixture(params=[*VIRTUAL_BACKENDS])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return VIRTUAL_BACKENDS[request.param]()


@pytest.fixture
async def broker() -> AsyncIterator[MemoryBroker]:
    async with MemoryBroker() as broker:
        yield broker


@pytest.fixture
async def nc(broker: MemoryBroker) -> AsyncIterator[Connection]:
    async with broker.connect() as nc:
        yield nc


class PlayedService:
    """Sends what a test says, and takes what comes back."""

    def __init__(self, nc: Connection, request: Message, answers: natsery.Messages) -> None:
        self._nc = nc
        self._request = request
        self._answers = answers

    async def open(self, reply: str = f"{INBOX}.0") -> None:
        await self._nc.publish(self._request.reply, reply=reply, headers={"Reply-Window": "4"})

    async def send(self, number: int, data: bytes | None = None) -> None:
        data = b"%d" % number if data is None else data
        await self._nc.publish(self._request.reply, data, reply=f"{INBOX}.{number}")

    async def fail(self) -> None:
        await self._nc.publish(self._request.reply, headers=natsery.error_headers(404, "no more"))

    async def answers(self) -> list[tuple[int, bytes]]:
        """What has come back since the last call: the number in the subject, and the payload."""
        await self._nc.flush()
        await anyio.wait_all_tasks_blocked()
        found: list[tuple[int, bytes]] = []
        while self._answers._has_pending():
            message = await self._answers.receive()
            data = b"leave" if message.headers.get("Reply-Window") == "0" else message.data
            found.append((int(message.subject.rpartition(".")[2]), data))
        return found


@asynccontextmanager
async def play(
    nc: Connection, client_nc: Connection | None = None, **options: Any
) -> AsyncIterator[tuple[PlayedService, ReplyStream[Any]]]:
    async with bounded(), nc.subscribe("played") as requests, nc.subscribe(f"{INBOX}.*") as answers:
        async with ServiceClient(client_nc or nc).stream("played", window=4, **options) as replies:
            yield PlayedService(nc, await requests.receive(), answers), replies


async def test_replies_are_acknowledged_as_they_are_read(nc: Connection) -> None:
    async with play(nc) as (service, replies):
        await service.open()
        assert await service.answers() == [(0, b"0")]
        for number in range(1, 5):
            await service.send(number)
        assert await service.answers() == []
        assert [(await replies.receive()).data for _ in range(3)] == [b"1", b"2", b"3"]
        assert await service.answers() == [(2, b"")]
        await service.open()  # a heartbeat
        assert await service.answers() == [(0, b"3")]
        await service.send(5, b"")
        assert [reply.data async for reply in replies] == [b"4"]
        assert replies.ended is EndReason.SENTINEL


async def test_the_end_is_numbered_so_that_no_last_reply_is_missed(nc: Connection) -> None:
    """A reply that was lost before the end went unnoticed."""
    async with play(nc) as (service, replies):
        await service.open()
        await service.send(1)
        await service.send(3, b"")
        assert (await replies.receive()).data == b"1"
        for _ in range(2):
            with pytest.raises(ConnectionLostError, match="reply 2 of the stream on 'played' did not arrive"):
                await replies.receive()
        assert replies.ended is None
        assert await service.answers() == [(0, b"0")]
    async with play(nc) as (service, replies):
        await service.open()
        await service.send(1)
        await service.send(1)
        await replies.receive()
        with pytest.raises(
            ConnectionLostError, match="reply 1 of the stream on 'played' came where reply 2 was expected"
        ):
            await replies.receive()


async def test_a_service_that_falls_silent_is_an_error(nc: Connection) -> None:
    """The reader waited for ever for a service that had been killed."""
    async with play(nc) as (service, replies):
        await service.open()
        await service.send(1)
        await replies.receive()
        begun = anyio.current_time()
        async with anyio.create_task_group() as tasks:

            async def beat() -> None:
                for _ in range(3):
                    await anyio.sleep(5)
                    await service.open()

            tasks.start_soon(beat)
            with pytest.raises(ConnectionLostError, match="has sent nothing of the stream on 'played' for 15 s"):
                await replies.receive()
        assert 30 <= anyio.current_time() - begun <= 45


async def test_a_service_that_knows_no_heartbeats_may_be_silent(nc: Connection) -> None:
    async with play(nc, wait=60) as (service, replies):
        await nc.publish(service._request.reply, b"1")
        begun = anyio.current_time()
        assert [reply.data async for reply in replies] == [b"1"]
        assert (replies.ended, anyio.current_time() - begun) == (EndReason.WAIT, 60)


async def test_a_reader_that_pauses_answers_heartbeats_all_the_same(nc: Connection) -> None:
    async def waits(request: natsery.Request) -> AsyncIterator[bytes]:
        for number in range(20):
            yield b"%d" % number

    async with bounded(500), natsery.serve(nc, config(waits)) as service:
        async with ServiceClient(nc).stream("waits", window=2) as replies:
            assert (await replies.receive()).data == b"0"
            await anyio.sleep(100)
            assert [int(reply.data) async for reply in replies] == list(range(1, 20))
        assert service.stats().endpoints[0].num_errors == 0


async def test_an_error_is_raised_each_time(nc: Connection) -> None:
    async with play(nc) as (service, replies):
        await service.open()
        await service.send(1)
        await service.fail()
        assert (await replies.receive()).data == b"1"
        for _ in range(2):
            with pytest.raises(ServiceError, match="404:no more"):
                await replies.receive()
        await service.answers()
    async with nc.subscribe(f"{INBOX}.*") as answers:
        await nc.flush()
        assert not answers._has_pending()


async def test_leaving_is_said_where_nothing_was_answered_yet(nc: Connection) -> None:
    async with nc.subscribe(f"{INBOX}.*") as said:
        async with play(nc) as (service, replies):
            await service.open()
            await service.send(1)
            await service.send(2)
            assert (await replies.receive()).data == b"1"
        await nc.flush()
        last = [await said.receive() for _ in range(2)][-1]
        assert (last.subject, dict(last.headers)) == (f"{INBOX}.2", {"Reply-Window": "0"})
        assert not said._has_pending()


async def test_a_stream_that_was_read_whole_is_not_left(nc: Connection) -> None:
    async with nc.subscribe(f"{INBOX}.*") as said:
        async with play(nc) as (service, replies):
            await service.open()
            await service.send(1, b"")
            assert [reply async for reply in replies] == []
        await nc.flush()
        assert (await said.receive()).data == b"0"
        assert not said._has_pending()


async def test_a_connection_that_is_lost_is_an_error_after_what_had_come(broker: MemoryBroker, nc: Connection) -> None:
    async with broker.connect() as client_nc, play(nc, client_nc) as (service, replies):
        await service.open()
        await service.send(1)
        await service.answers()
        assert isinstance(client_nc, MemoryConnection)
        broker.disconnect(client_nc)
        broker.reconnect(client_nc)
        await service.send(2)
        await service.answers()
        assert (await replies.receive()).data == b"1"
        assert (await replies.receive()).data == b"2"
        with pytest.raises(ConnectionLostError, match="the connection ended before the stream did"):
            await replies.receive()


async def test_acknowledgements_that_are_denied_say_what_to_allow(broker: MemoryBroker, nc: Connection) -> None:
    async with broker.connect(publish=["played"]) as client_nc, play(nc, client_nc) as (service, replies):
        await service.open()
        with pytest.raises(natsery.PublishDeniedError, match=r"_INBOX\.service.*allow.*'_INBOX\.>'.*allow_responses"):
            await replies.receive()


async def test_acknowledgements_to_another_account_say_what_is_to_be_allowed_there(
    broker: MemoryBroker, nc: Connection
) -> None:
    """It named the inboxes of services, and that permission changed nothing."""
    async with broker.connect(publish=["played"]) as client_nc, play(nc, client_nc) as (service, replies):
        await service.open("_R_.x7Tbq3.f0Ys2c")
        with pytest.raises(
            natsery.PublishDeniedError, match=r"'_R_\.x7Tbq3\.f0Ys2c'.*allow.*'_R_\.>'.*accounts.*allow_responses"
        ) as caught:
            await replies.receive()
        assert "_INBOX" not in str(caught.value)


async def test_an_acknowledgement_that_was_lost_is_repeated(broker: MemoryBroker, nc: Connection) -> None:
    """The service waited for it, and the reader for the next reply."""

    @natsery.endpoint
    async def numbers(request: natsery.Request) -> AsyncIterator[bytes]:
        for number in range(100):
            yield b"%d" % number

    async with bounded(), broker.connect() as server, natsery.serve(server, config(numbers)) as service:
        async with ServiceClient(nc).stream("numbers", window=2) as replies:
            assert (await replies.receive()).data == b"0"
            inbox = service._context.streams._inbox
            broker.drop(server, f"{inbox}.*.*", 3)
            assert [int(reply.data) async for reply in replies] == list(range(1, 100))


@pytest.mark.parametrize("window", [0, 65_537, True, 1.5, "8"])
async def test_a_window_is_a_number_in_bounds(nc: Connection, window: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="window: must be an int from 1 to 65,536; got"):
        async with ServiceClient(nc).stream("x", window=window):
            pass


async def test_no_responders_and_malformed_replies_are_errors(nc: Connection) -> None:
    async with bounded(), ServiceClient(nc).stream("nowhere") as replies:
        with pytest.raises(natsery.NoRespondersError):
            await replies.receive()
        assert replies.ended is EndReason.NO_RESPONDERS
    async with play(nc, returns=int) as (service, replies):
        await service.open()
        await service.send(1, b"x")
        await service.send(2)
        with pytest.raises(natsery.MalformedReplyError):
            await replies.receive()
        assert await replies.receive() == 2


async def test_leaving_is_said_where_the_service_opens_meanwhile(nc: Connection, broker: MemoryBroker) -> None:
    """The reader answered as if it were still there, and the service waited for it until the next heartbeat."""
    async with bounded(), nc.subscribe("played") as requests, nc.subscribe(f"{INBOX}.*") as answers:
        async with ServiceClient(nc).stream("played", window=4):
            service = PlayedService(nc, await requests.receive(), answers)
            broker.delay = 0.1
            await service.open()
        assert await service.answers() == [(0, b"leave")]


async def test_a_count_ends_the_stream_and_leaves(nc: Connection) -> None:
    async with play(nc, count=2) as (service, replies):
        await service.open()
        for number in (1, 2, 3):
            await service.send(number)
        assert [reply.data async for reply in replies] == [b"1", b"2"]
        assert replies.ended is EndReason.COUNT


async def test_what_may_not_be_answered_is_not_answered(nc: Connection) -> None:
    """A service could have a client publish to a server's own subjects, with the client's permissions."""
    async with play(nc) as (service, replies), nc.subscribe("$JS.>") as published:
        await nc.publish(service._request.reply, reply="$JS.API.STREAM.PURGE.orders", headers={"Reply-Window": "4"})
        await service.send(1)
        await service.send(2, b"")
        assert [reply.data async for reply in replies] == [b"1"]
        assert await service.answers() == []
        assert not published._has_pending()


async def test_subjects_that_a_server_has_replaced_are_answered(nc: Connection) -> None:
    """Between accounts a server writes subjects of its own, which have no number."""
    async with play(nc) as (service, replies), nc.subscribe("_R_.>") as answers:
        await nc.publish(service._request.reply, reply="_R_.a.b", headers={"Reply-Window": "2"})
        for number in (b"1", b"2"):
            await nc.publish(service._request.reply, number, reply="_R_.a.c")
        await nc.publish(service._request.reply, reply="_R_.a.d")
        assert [reply.data async for reply in replies] == [b"1", b"2"]
        await nc.flush()
        found = [await answers.receive() for _ in range(2)]
        assert [(each.subject, each.data) for each in found] == [("_R_.a.b", b"0"), ("_R_.a.c", b"")]
        assert not answers._has_pending()
