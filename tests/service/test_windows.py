"""The windows of streamed replies: acknowledgements, heartbeats, and requesters that fall silent or leave."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

import natsery
from natsery.abc import Connection
from natsery.testing import MemoryBroker
from natsery.testing._memory_connection import MemoryConnection

from ..bounds import bounded
from ..calc_service import config, error_of
from ..virtual_time import IN_VIRTUAL_TIME
from .stream_requester import ask, numbers

pytestmark = pytest.mark.anyio


async def test_no_more_parts_are_sent_than_the_window_allows(nc: Connection) -> None:
    async with bounded(), natsery.serve(nc, config(numbers)), ask(nc, "numbers", b"9", window=4) as requester:
        status = await requester.next()
        assert (status.data, dict(status.headers), status.reply[-2:]) == (b"", {"Reply-Window": "4"}, ".0")
        subject = status.reply[:-1]
        assert await requester.take(4) == [b"0", b"1", b"2", b"3"]
        assert await requester.is_quiet()
        await nc.publish(subject + "1")
        assert await requester.take(1) == [b"4"]
        assert await requester.is_quiet()
        await nc.publish(subject + "3")
        await nc.publish(subject + "2")  # late
        assert await requester.take(2) == [b"5", b"6"]
        assert await requester.is_quiet()
        await nc.publish(subject + "7")
        assert await requester.rest() == [b"7", b"8", b""]


@IN_VIRTUAL_TIME
async def test_a_requester_with_a_window_hears_every_five_seconds(nc: Connection) -> None:
    async def waits(request: natsery.Request) -> AsyncIterator[bytes]:
        yield b"part"
        await anyio.sleep(60)

    async with bounded(), natsery.serve(nc, config(waits)), ask(nc, "waits", window=4) as requester:
        assert await requester.take(2) == [b"", b"part"]
        last = anyio.current_time()
        for _ in range(11):
            status = await requester.next()
            assert (status.headers["Reply-Window"], status.reply[-2:]) == ("4", ".0")
            await nc.publish(status.reply)
            assert anyio.current_time() - last <= 5
            last = anyio.current_time()
    async with bounded(), natsery.serve(nc, config(waits)), ask(nc, "waits") as requester:
        assert await requester.rest() == [b"part", b""]


@IN_VIRTUAL_TIME
async def test_replies_that_come_often_need_no_heartbeats(nc: Connection) -> None:
    async def ticks(request: natsery.Request) -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"tick"
            await anyio.sleep(2.4)

    async with bounded(), natsery.serve(nc, config(ticks)), ask(nc, "ticks", window=20) as requester:
        assert await requester.take(1) == [b""]
        assert await requester.rest() == [*[b"tick"] * 20, b""]


@IN_VIRTUAL_TIME
async def test_no_requester_hears_more_often_because_there_are_others(nc: Connection) -> None:
    """Nor less often because there were some, and none since."""

    @natsery.endpoint(concurrency=2)
    async def waits(request: natsery.Request) -> AsyncIterator[bytes]:
        yield b"part"
        await anyio.sleep(18)

    async with bounded(), natsery.serve(nc, config(waits)):
        for _ in range(2):
            begun = anyio.current_time()
            async with ask(nc, "waits", window=4) as one, ask(nc, "waits", window=4) as other:
                assert [await each.take(2) for each in (one, other)] == [[b"", b"part"]] * 2
                for seconds in (5, 10, 15):
                    for requester in (one, other):
                        await nc.publish((await requester.next()).reply)
                        assert anyio.current_time() - begun == pytest.approx(seconds)
                assert [await each.rest() for each in (one, other)] == [[b""]] * 2
            await anyio.sleep(5)  # until there is no heartbeat to send


async def test_a_reply_subject_without_room_for_an_acknowledgement_gets_all_at_once(nc: Connection) -> None:
    """The server closes the connection for a line that is too long."""
    assert isinstance(nc, MemoryConnection)
    async with bounded(), natsery.serve(nc, config(numbers)):
        async with ask(nc, "numbers", b"1", window=1) as requester:
            subject = (await requester.next()).reply.removesuffix(".0")
        room = nc._max_subjects - len(subject) - 20  # characters that a number may have
        for size, status in ((room, [b""]), (room + 1, [])):
            async with nc.subscribe("r" * size) as replies:
                await nc.publish("numbers", b"1", reply="r" * size, headers={"Reply-Window": "4"})
                expected = [*status, b"0", b""]
                received = [await replies.receive() for _ in expected]
                assert [each.data for each in received] == expected
                assert [bool(each.reply) for each in received] == [bool(status)] * len(expected)


@pytest.mark.parametrize("window", ["0", "-1", "1e3", "", " ", "4,5", "9" * 5000])
async def test_what_is_no_window_counts_as_none(nc: Connection, window: str) -> None:
    async with bounded(), natsery.serve(nc, config(numbers)):
        async with ask(nc, "numbers", b"200", window=window) as requester:
            assert len(await requester.rest()) == 201


@IN_VIRTUAL_TIME
async def test_acknowledgements_that_make_no_sense_change_nothing(nc: Connection) -> None:
    async with bounded(), natsery.serve(nc, config(numbers)), ask(nc, "numbers", b"9", window=2) as requester:
        status = await requester.next()
        inbox, token, _ = status.reply.rsplit(".", 2)
        assert await requester.take(2) == [b"0", b"1"]
        for last in ("0", "-1", "00", "1.0", "x", "9" * 5000, "²", ""):
            if last:
                await nc.publish(f"{inbox}.{token}.{last}") if len(last) < 3000 else None
        for wrong in ("0" * 16, token[:-1], token + "0"):
            await nc.publish(f"{inbox}.{wrong}.2")
            await nc.publish(f"{inbox}.{wrong}.2", headers={"Reply-Window": "0"})
        assert await requester.is_quiet()
        # Of parts that have not been sent, and how far is not readable.
        await nc.publish(f"{inbox}.{token}.900", b"\xff")
        assert await requester.take(2) == [b"2", b"3"]
        assert await requester.is_quiet()


@IN_VIRTUAL_TIME
async def test_a_requester_that_leaves_heartbeats_unanswered_counts_as_gone(nc: Connection) -> None:
    """As one that is frozen, or that the server does not tell of since it is in another account."""
    begun: list[float] = []

    async def endless(request: natsery.Request) -> AsyncIterator[bytes]:
        begun.append(anyio.current_time())
        while True:
            yield b"part"

    async with bounded(), natsery.serve(nc, config(endless)) as service, ask(nc, "endless", window=2) as requester:
        statuses = [(await requester.next()).reply[-2:] for _ in range(5)]
        assert statuses == [".0", ".1", ".2", ".0", ".0"]
        while service.pending:
            await anyio.sleep(1)
        assert 12 < anyio.current_time() - begun[0] <= 16
        assert await requester.rest() == ["408:No Acknowledgement"]
        assert service.stats().endpoints[0].failures == {"requester_gone": 1}


@IN_VIRTUAL_TIME
async def test_heartbeats_go_on_when_the_connection_is_back(broker: MemoryBroker, nc: Connection) -> None:
    async def waits(request: natsery.Request) -> AsyncIterator[bytes]:
        yield b"part"
        await anyio.sleep_forever()

    async with bounded(100), broker.connect() as server, natsery.serve(server, config(waits), grace=0):
        async with ask(nc, "waits", window=2) as requester:
            assert await requester.take(2) == [b"", b"part"]
            broker.disconnect(server)
            await anyio.sleep(6)
            broker.reconnect(server)
            assert (await requester.next()).reply.endswith(".0")


async def test_streams_go_on_without_an_inbox(
    broker: MemoryBroker, nc: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    async with bounded(), broker.connect(subscribe=["numbers", "$SRV.>"]) as server:
        async with natsery.serve(server, config(numbers)) as service:
            for status in ([b""], []):  # the server's word comes after the first one
                async with ask(nc, "numbers", b"9", window=2) as requester:
                    assert await requester.take(len(status)) == status
                    assert await requester.rest() == [*(b"%d" % each for each in range(9)), b""]
            async with ask(nc, "numbers", b"1") as requester:
                assert [(await requester.next()).reply for _ in range(2)] == ["", ""]  # nothing to acknowledge
    assert caplog.text.count("denies subscribing") == 1
    assert service.stats().endpoints[0].failures == {}


async def test_an_inbox_that_is_taken_away_ends_the_windows(broker: MemoryBroker, nc: Connection) -> None:
    async with bounded(), broker.connect() as server, natsery.serve(server, config(numbers)):
        async with ask(nc, "numbers", b"9", window=2) as requester:
            await requester.take(3)
            assert isinstance(server, MemoryConnection)
            broker.permit(server, subscribe=["numbers", "$SRV.>"])
            rest = [await requester.next() for _ in range(8)]
            assert [each.data for each in rest] == [b"%d" % each for each in range(2, 9)] + [b""]
            assert {each.reply for each in rest} == {""}  # nothing to acknowledge


async def test_a_reply_that_is_denied_ends_the_stream(broker: MemoryBroker, nc: Connection) -> None:
    async def endless(request: natsery.Request) -> AsyncIterator[bytes]:
        while True:
            yield b"part"
            await anyio.lowlevel.checkpoint()

    async with bounded(), broker.connect(publish=["$SRV.>"]) as server:
        async with natsery.serve(server, config(endless)) as service, ask(nc, "endless", window=2) as requester:
            assert await requester.is_quiet()
            stats = service.stats().endpoints[0]
            assert (stats.failures, stats.last_error[:4]) == ({"undeliverable": 1}, "500:")


async def test_a_reply_that_is_denied_ends_no_other_stream(broker: MemoryBroker, nc: Connection) -> None:
    let_go = anyio.Event()

    async def held(request: natsery.Request) -> AsyncIterator[bytes]:
        yield b"1"
        await let_go.wait()
        yield b"2"

    async def endless(request: natsery.Request) -> AsyncIterator[bytes]:
        while True:
            yield b"part"
            await anyio.lowlevel.checkpoint()

    async with bounded(), broker.connect() as server:
        async with natsery.serve(server, config(held, endless)) as service, ask(nc, "held", window=9) as kept:
            assert await kept.take(2) == [b"", b"1"]
            broker.permit(server, publish=["$SRV.>", kept.inbox])
            async with ask(nc, "endless", window=2) as denied:
                assert await denied.is_quiet()
                let_go.set()
                assert await kept.rest() == [b"2", b""]
        assert [each.failures for each in service.stats().endpoints] == [{}, {"undeliverable": 1}]


async def test_a_service_without_streams_has_no_inbox(nc: Connection) -> None:
    async def plain(request: natsery.Request) -> bytes:
        return b""

    assert isinstance(nc, MemoryConnection)
    async with bounded(), natsery.serve(nc, config(plain)) as service:
        assert not any("_INBOX" in each.subject for each in nc._subscriptions)
        for _ in range(2):
            await service.add_endpoint(numbers)
            async with ask(nc, "numbers", b"1") as requester:
                assert await requester.rest() == [b"0", b""]
        assert [each.queue_group for each in nc._subscriptions if "_INBOX" in each.subject] == [""]
        assert service._context.streams._open == {}  # nothing is kept of those that have ended
    assert not nc._subscriptions


async def shielded(request: natsery.Request) -> AsyncIterator[bytes]:
    """Goes on after its first reply, whatever becomes of its requester."""
    yield b"part"
    with anyio.CancelScope(shield=True):
        await anyio.sleep(100)


@IN_VIRTUAL_TIME
async def test_a_requester_that_falls_silent_and_is_told_of_a_stop_is_told_nothing_more(nc: Connection) -> None:
    async with bounded(1_000), nc.subscribe("replies") as messages:
        async with natsery.serve(nc, config(shielded), grace=0) as service:
            await nc.publish("shielded", reply="replies", headers={"Reply-Window": "4"})
            await anyio.sleep(50)  # until several heartbeats were not answered
        await nc.flush()
        errors = []
        while messages._has_pending():
            errors.append(error_of(await messages.receive()))
        assert [error for error in errors if error is not None] == ["503:Service Stopping"]
    assert service.stats().endpoints[0].num_requests == 1


@IN_VIRTUAL_TIME
async def test_a_requester_that_has_left_hears_no_heartbeats(nc: Connection) -> None:
    async with bounded(1_000), natsery.serve(nc, config(shielded)), ask(nc, "shielded", window=4) as requester:
        status = await requester.next()
        assert await requester.take(1) == [b"part"]
        await nc.publish(status.reply, headers={"Reply-Window": "0"})
        await anyio.sleep(50)
        assert await requester.is_quiet()
