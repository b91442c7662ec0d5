"""Handlers that stream their replies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import anyio
import pytest

import natsery
from natsery import FailureCause, Message, ServiceClient, ServiceError
from natsery.abc import Connection
from natsery.testing import MemoryBroker

from ..bounds import bounded
from ..calc_service import config
from ..virtual_time import VIRTUAL_BACKENDS, JumpingLoop

pytestmark = pytest.mark.anyio

BACKENDS = {**VIRTUAL_BACKENDS, "quick": lambda: ("asyncio", {"loop_factory": JumpingLoop})}

QUICK = pytest.mark.parametrize("anyio_backend", ["trio", "quick"], indirect=True)
"""For tests of so many replies that asyncio's debug mode would make a minute of them."""


@pytest.fixture(params=[*VIRTUAL_BACKENDS])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return BACKENDS[request.param]()


@dataclass
class Item:
    name: str


@natsery.endpoint
async def count(body: int) -> AsyncIterator[int]:
    for number in range(body):
        yield number


@natsery.endpoint
async def items(request: natsery.Request) -> AsyncIterator[Item]:
    yield Item("tea")
    yield Item("cocoa")


@natsery.endpoint
async def raw(request: natsery.Request) -> AsyncIterator[bytes]:
    yield b"1"
    yield request.data


def forever(log: list[str]):
    """An endless stream that writes down how it ends, after a moment."""

    @natsery.endpoint
    async def forever(request: natsery.Request) -> AsyncIterator[bytes]:
        log.append("begun")
        try:
            while True:
                yield b"x"
        finally:
            await anyio.sleep(1)
            log.append("closed")

    return forever


def waiting(log: list[str]):
    """A stream that yields once and waits, and writes down how it ends."""

    @natsery.endpoint
    async def waiting(request: natsery.Request) -> AsyncIterator[bytes]:
        yield b"first"
        try:
            await anyio.sleep_forever()
        except BaseException:
            log.append("cancelled")
            raise

    return waiting


async def take(nc: Connection, subject: str, data: bytes = b"", headers: dict[str, str] | None = None) -> list[Message]:
    """Everything that comes for a request within a second, as a requester that knows nothing of streams gets it."""
    async with ServiceClient(nc).request_many(subject, data, headers=headers, wait=1) as replies:
        return [reply async for reply in replies]


def described(replies: list[Message]) -> list[tuple[bytes, dict[str, str]]]:
    return [(reply.data, dict(reply.headers)) for reply in replies]


async def test_each_yield_is_a_reply_and_the_end_is_an_empty_one(nc: Connection) -> None:
    async with bounded(), natsery.serve(nc, config(count, items, raw)) as service:
        assert described(await take(nc, "count", b"2")) == [(b"0", {}), (b"1", {}), (b"", {})]
        assert described(await take(nc, "count", b"0")) == [(b"", {})]
        assert described(await take(nc, "items"))[:2] == [(b'{"name":"tea"}', {}), (b'{"name":"cocoa"}', {})]
        assert described(await take(nc, "raw", b"2")) == [(b"1", {}), (b"2", {}), (b"", {})]
        assert [each.num_requests for each in service.stats().endpoints] == [2, 1, 1]


async def test_an_error_is_the_last_reply(nc: Connection, caplog) -> None:
    async def fail(body: str) -> AsyncIterator[str]:
        yield "one"
        if body == "service":
            raise ServiceError(404, "no more")
        raise ValueError("secret")

    async with bounded(), natsery.serve(nc, config(fail)) as service:
        for body, expected in ((b'"service"', "404:no more"), (b'"any"', "500:Internal Server Error")):
            first, last = await take(nc, "fail", body)
            assert first.data == b'"one"'
            assert str(ServiceError.from_message(last)) == expected
        stats = service.endpoints[0].stats()
        assert stats.failures == {FailureCause.SERVICE_ERROR: 1, FailureCause.EXCEPTION: 1}
    assert "secret" in caplog.text


async def test_a_body_that_does_not_fit_is_400(nc: Connection) -> None:
    async with bounded(), natsery.serve(nc, config(count)):
        (reply,) = await take(nc, "count", b'"x"')
        assert str(ServiceError.from_message(reply)).startswith("400:Invalid Body: $: ")


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (b"", "must not yield an empty reply, which marks the end"),
        ("text", r"must yield bytes, not str; annotate it, as with '-> AsyncIterator[str]'"),
    ],
)
async def test_what_cannot_be_a_reply_is_said(nc: Connection, caplog, part: object, reason: str) -> None:
    async def odd(request: natsery.Request):
        yield part

    async with bounded(), natsery.serve(nc, config(odd)):
        (reply,) = await take(nc, "odd")
        assert str(ServiceError.from_message(reply)) == "500:Internal Server Error"
    assert reason in caplog.text


async def test_a_time_out_is_for_the_whole_stream(nc: Connection) -> None:
    async def slow(request: natsery.Request) -> AsyncIterator[bytes]:
        for _ in range(10):
            await anyio.sleep(0.2)
            yield b"x"

    async with bounded(), natsery.serve(nc, config(natsery.EndpointConfig("slow", slow, timeout=0.5))):
        *parts, last = await take(nc, "slow")
        assert len(parts) == 2
        assert str(ServiceError.from_message(last)) == "504:Deadline Exceeded"


async def test_a_stop_cuts_it_off_at_the_end_of_the_grace(nc: Connection, broker: MemoryBroker) -> None:
    log: list[str] = []
    async with bounded(), broker.connect() as asker, asker.subscribe("replies") as replies:
        async with natsery.serve(nc, config(waiting(log)), grace=1) as service:
            await asker.publish("waiting", reply="replies")
            assert (await replies.receive()).data == b"first"
        assert str(ServiceError.from_message(await replies.receive())) == "503:Service Stopping"
        assert log == ["cancelled"]
        stats = service.stats().endpoints[0]
        assert (stats.num_requests, stats.num_errors, stats.failures) == (1, 1, {FailureCause.STOPPING: 1})


async def test_middlewares_stand_around_the_whole_stream(nc: Connection) -> None:
    seen: list[object] = []

    async def middleware(request: natsery.Request, call_next) -> bytes | None:
        seen.append("begin")
        seen.append(await call_next(request))
        return None

    async with bounded(), natsery.serve(nc, config(raw, middlewares=[middleware])):
        assert len(await take(nc, "raw", b"2")) == 3
    assert seen == ["begin", None]


async def test_without_a_reply_subject_it_does_not_run_on(nc: Connection) -> None:
    log: list[str] = []
    async with bounded(), natsery.serve(nc, config(forever(log))) as service:
        await nc.publish("forever")
        while service.endpoints[0].pending or not service.endpoints[0].stats().num_requests:
            await anyio.sleep(0.1)
        assert log == ["begun", "closed"]
        assert service.endpoints[0].stats().failures == {FailureCause.UNDELIVERABLE: 1}


# A requester that leaves


async def test_a_requester_that_leaves_ends_it_before_the_next_request_is_taken(nc: Connection) -> None:
    log: list[str] = []
    async with bounded(), natsery.serve(nc, config(forever(log))) as service:
        client = ServiceClient(nc)
        for _ in range(2):
            async with client.request_many("forever", wait=5) as replies:
                assert (await replies.receive()).data == b"x"
            log.append("left")
        while service.endpoints[0].pending:
            await anyio.sleep(0.1)
        assert log == ["begun", "left", "closed", "begun", "left", "closed"]
        stats = service.endpoints[0].stats()
        assert (stats.num_requests, stats.failures) == (2, {})


async def test_a_generator_that_waits_is_cancelled_when_the_requester_says_that_it_leaves(nc: Connection) -> None:
    log: list[str] = []
    async with bounded(), natsery.serve(nc, config(waiting(log))) as service:
        async with ServiceClient(nc).stream("waiting") as replies:
            assert (await replies.receive()).data == b"first"
        while service.endpoints[0].pending:
            await anyio.sleep(0.1)
        assert log == ["cancelled"]
        assert service.endpoints[0].stats().num_errors == 0


async def test_a_requester_can_leave_before_the_first_reply(nc: Connection) -> None:
    log: list[str] = []

    async def silent(request: natsery.Request) -> AsyncIterator[bytes]:
        try:
            await anyio.sleep_forever()
        finally:
            log.append("closed")
        yield b""

    async with bounded(), natsery.serve(nc, config(silent)) as service:
        async with ServiceClient(nc).stream("silent", wait=0.1) as replies:
            assert [reply async for reply in replies] == []
            assert replies.ended is natsery.EndReason.WAIT
        while service.endpoints[0].pending:
            await anyio.sleep(0.1)
    assert log == ["closed"]


async def test_a_requester_that_is_gone_without_a_word_is_noticed_by_the_heartbeats(
    nc: Connection, broker: MemoryBroker
) -> None:
    log: list[str] = []
    async with bounded(), natsery.serve(nc, config(waiting(log))) as service:
        async with broker.connect() as asker, asker.subscribe("replies") as replies:
            await asker.publish("waiting", reply="replies", headers={"Reply-Window": "4"})
            opening, first = await replies.receive(), await replies.receive()
            assert (opening.data, dict(opening.headers)) == (b"", {"Reply-Window": "4"})
            assert (first.data, first.reply) == (b"first", f"{opening.reply[:-1]}1")
            heartbeat = await replies.receive()
            assert (heartbeat.data, heartbeat.reply, dict(heartbeat.headers)) == (
                b"",
                opening.reply,
                {"Reply-Window": "4"},
            )
            assert log == []
        while service.endpoints[0].pending:
            await anyio.sleep(1)
    assert log == ["cancelled"]


async def test_a_generator_that_does_not_end_is_given_up(nc: Connection, caplog) -> None:
    async def stubborn(request: natsery.Request) -> AsyncIterator[bytes]:
        try:
            yield b"x"
            await anyio.sleep_forever()
        finally:
            await anyio.sleep_forever()

    async with bounded(), natsery.serve(nc, config(stubborn)) as service:
        async with ServiceClient(nc).stream("stubborn") as replies:
            await replies.receive()
        while service.endpoints[0].pending:
            await anyio.sleep(1)
        assert service.endpoints[0].stats().num_requests == 1


async def test_cancel_scopes_and_task_groups_in_a_generator(nc: Connection) -> None:
    async def inside(request: natsery.Request) -> AsyncIterator[bytes]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep_forever)
            with anyio.move_on_after(100):
                yield b"1"
            tasks.cancel_scope.cancel()
        yield b"2"

    async with bounded(), natsery.serve(nc, config(inside)):
        assert [reply.data for reply in await take(nc, "inside")] == [b"1", b"2", b""]


async def test_a_requester_that_acknowledges_no_more_is_gone(nc: Connection) -> None:
    """As one in another account, where no server says that nobody receives the replies."""
    log: list[str] = []
    async with bounded(), natsery.serve(nc, config(waiting(log))) as service, nc.subscribe("replies") as replies:
        await nc.publish("waiting", reply="replies", headers={"Reply-Window": "4"})
        opening, _ = await replies.receive(), await replies.receive()
        for _ in range(5):  # as long as the requester acknowledges the heartbeats
            await nc.publish(opening.reply)
            assert (await replies.receive()).reply == opening.reply
        while service.endpoints[0].pending:
            await anyio.sleep(1)
        last = [await replies.receive() for _ in range(3)][-1]
        assert str(ServiceError.from_message(last)) == "408:No Acknowledgement"
        assert service.endpoints[0].stats().failures == {FailureCause.REQUESTER_GONE: 1}
    assert log == ["cancelled"]


# Windows


async def test_no_more_replies_come_than_the_window_takes(nc: Connection) -> None:
    made: list[int] = []

    @natsery.endpoint
    async def count(request: natsery.Request) -> AsyncIterator[bytes]:
        for number in range(1, 21):
            made.append(number)
            yield b"%d" % number

    async with bounded(), natsery.serve(nc, config(count)), nc.subscribe("replies") as replies:
        await nc.publish("count", reply="replies", headers={"Reply-Window": "4"})
        opening = await replies.receive()
        await nc.publish(opening.reply)
        received = [await replies.receive() for _ in range(4)]
        await anyio.sleep(2)
        assert made == [1, 2, 3, 4, 5]
        await nc.publish(received[1].reply)  # which acknowledges two
        received += [await replies.receive() for _ in range(2)]
        await anyio.sleep(2)
        assert made == [1, 2, 3, 4, 5, 6, 7]
        await nc.publish(f"{opening.reply[:-1]}1000")  # more than were sent
        received += [await replies.receive() for _ in range(4)]
        await anyio.sleep(2)
        assert len(made) == 11
        assert [int(each.data) for each in received] == list(range(1, 11))


@pytest.mark.parametrize("window", ["0", "-1", "x", "", "1.5", "9" * 30, "٣"])
async def test_what_is_no_window_is_none(nc: Connection, window: str) -> None:
    async with bounded(), natsery.serve(nc, config(count)), nc.subscribe("replies") as replies:
        headers = natsery.Headers.from_wire([("Reply-Window", window)])
        nc._broker._route(nc, Message("count", b"3", "replies", headers))  # type: ignore[attr-defined]
        assert [(await replies.receive()).data for _ in range(4)] == [b"0", b"1", b"2", b""]


async def test_strangers_end_and_acknowledge_nothing(nc: Connection) -> None:
    log: list[str] = []
    async with bounded(), natsery.serve(nc, config(waiting(log))) as service, nc.subscribe("replies") as replies:
        await nc.publish("waiting", reply="replies", headers={"Reply-Window": "4"})
        opening = await replies.receive()
        inbox, token, _ = opening.reply.rsplit(".", 2)
        for subject in (f"{inbox}.{'0' * len(token)}.0", f"{inbox}.{token}.x", f"{inbox}.{token}.{'9' * 30}"):
            await nc.publish(subject, headers={"Reply-Window": "0"})
        await anyio.sleep(1)
        assert service.endpoints[0].pending == 1
        await nc.publish(opening.reply, headers={"Reply-Window": "0"})
        while service.endpoints[0].pending:
            await anyio.sleep(0.1)


async def test_services_that_stream_nothing_subscribe_to_nothing_more(nc: Connection) -> None:
    async def plain(request: natsery.Request) -> bytes:
        return b""

    async with bounded(), natsery.serve(nc, config(plain, count)) as service:
        await nc.request("plain")
        assert service._context.streams._subscription is None
        assert await take(nc, "count", b"1")
        assert service._context.streams._subscription is not None
        assert service._context.streams._open == {}


@QUICK
async def test_a_hundred_thousand_replies_to_a_reader_that_pauses(nc: Connection) -> None:
    made: list[int] = []

    async def many(request: natsery.Request) -> AsyncIterator[bytes]:
        for number in range(100_000):
            made.append(number)
            yield b"%d" % number

    async with bounded(1_000), natsery.serve(nc, config(many)) as service:
        async with ServiceClient(nc).stream("many", window=256) as replies:
            for expected in range(100_000):
                assert int((await replies.receive()).data) == expected
                if expected % 10_000 == 0:
                    await anyio.sleep(20)  # longer than three heartbeats
                    assert len(made) <= expected + 1 + 256 + 1
            with pytest.raises(anyio.EndOfStream):
                await replies.receive()
        stats = service.stats().endpoints[0]
        assert (stats.num_requests, stats.num_errors) == (1, 0)


@QUICK
async def test_a_huge_window_is_cut_to_the_largest(nc: Connection) -> None:
    made: list[int] = []

    async def many(request: natsery.Request) -> AsyncIterator[bytes]:
        for number in range(100_000):
            made.append(number)
            yield b"x"

    async with bounded(), natsery.serve(nc, config(many), grace=0) as service, nc.subscribe("replies") as replies:
        await nc.publish("many", reply="replies", headers={"Reply-Window": "999999999"})
        assert (await replies.receive()).headers["Reply-Window"] == "65536"
        await anyio.sleep(1)
        assert len(made) == 65_536 + 1
        service.stop()
        await service.wait_stopped()
    assert service.stats().endpoints[0].failures == {FailureCause.STOPPING: 1}


async def test_a_heartbeat_that_cannot_be_sent_keeps_no_other_back(
    nc: Connection, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def send(reply: str, *args: object, **options: object) -> None:
        if reply == "broken":
            raise LookupError("the bus is full")
        await sent(reply, *args, **options)

    sent = nc._send
    served = config(waiting([]), natsery.EndpointConfig("other", waiting([])))
    async with bounded(), natsery.serve(nc, served), broker.connect() as asker:
        async with asker.subscribe("broken") as broken, asker.subscribe("whole") as whole:
            await asker.publish("waiting", reply="broken", headers={"Reply-Window": "4"})
            assert [(await broken.receive()).data for _ in range(2)] == [b"", b"first"]
            await asker.publish("other", reply="whole", headers={"Reply-Window": "4"})
            assert [(await whole.receive()).data for _ in range(2)] == [b"", b"first"]
            monkeypatch.setattr(nc, "_send", send)
            assert (await whole.receive()).data == b""
            monkeypatch.undo()
    assert any(isinstance(each.exc_info[1], LookupError) for each in caplog.records if each.exc_info)


async def test_streams_that_begin_together_have_one_inbox(
    nc: Connection, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def subscribe_late(interest):
        if interest.subject.endswith(".*.*"):
            subjects.append(interest.subject)
            await anyio.wait_all_tasks_blocked()
        return await subscribe(interest)

    subscribe, subjects = nc._subscribe, []
    monkeypatch.setattr(nc, "_subscribe", subscribe_late)
    served = config(*(natsery.EndpointConfig(each, count) for each in ("one", "two")))
    async with bounded(), natsery.serve(nc, served), broker.connect() as asker, anyio.create_task_group() as tasks:
        replies: dict[str, list[Message]] = {}

        async def ask(subject: str) -> None:
            replies[subject] = await take(asker, subject, b"1", headers={"Reply-Window": "4"})

        for subject in ("one", "two"):
            tasks.start_soon(ask, subject)
    assert len(subjects) == 1
    assert [[each.data for each in replies[subject]] for subject in ("one", "two")] == [[b"", b"0", b""]] * 2
