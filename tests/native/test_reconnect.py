"""What happens when the network or the server fails."""

from __future__ import annotations

import itertools
import re

import anyio
import pytest

import natsery
from natsery import EventKind, Message
from natsery._backends._direct_stream import DirectStream
from natsery._native import _native_connection
from natsery._native._write_buffer import HIGH_WATER_BYTES

from ..bounds import HANG_SECONDS, bounded
from ..calc_service import add, config
from ..server import NatsServer, cluster
from .scripted import Peer, scripted_server
from .tools import PINGS, QUICK, Events, lose_patience

pytestmark = pytest.mark.anyio


async def test_subscriptions_come_back_and_messages_wait_for_the_server() -> None:
    with NatsServer() as server:
        async with bounded(), natsery.connect(server.url, **QUICK) as nc:
            heard = Events(nc)
            async with nc.subscribe("news") as messages:
                server.kill()
                await heard.wait(EventKind.DISCONNECTED)
                assert not nc.is_connected
                await nc.publish("news", b"kept")
                server.start()
                assert (await messages.receive()).data == b"kept"
            assert [event.kind for event in heard.seen] == ["disconnected", "reconnected"]
            assert nc.statistics().reconnects == 1


async def test_a_server_killed_three_times_under_load() -> None:
    answered = failed = 0
    with NatsServer() as server:
        async with (
            bounded(),
            natsery.connect(server.url, **QUICK) as nc,
            natsery.connect(server.url, **QUICK) as other,
        ):
            heard, other_heard = Events(nc), Events(other)
            is_over = False

            async def load() -> None:
                nonlocal answered, failed
                while not is_over:
                    with anyio.move_on_after(0.5) as scope:
                        try:
                            reply = await other.request("add", b"1+1")
                            assert reply.data == b"2"
                            answered += 1
                        except natsery.NoRespondersError:
                            failed += 1
                    failed += scope.cancelled_caught

            async with natsery.serve(nc, config(add)), nc.subscribe("other") as messages:
                async with anyio.create_task_group() as tasks:
                    for _ in range(8):
                        tasks.start_soon(load)
                    for times in range(1, 4):
                        before = answered
                        server.restart()
                        await heard.wait(EventKind.RECONNECTED, times)
                        await other_heard.wait(EventKind.RECONNECTED, times)
                        await nc.flush()
                        while answered < before + 100:
                            await other.flush()
                    is_over = True
                await other.publish("other", b"here")
                assert (await messages.receive()).data == b"here"
    assert answered >= 300


async def test_what_waits_while_away_has_a_limit() -> None:
    with NatsServer() as server:
        async with bounded(), natsery.connect(server.url, max_pending_bytes=1000, **QUICK) as nc:
            heard = Events(nc)
            async with nc.subscribe("many") as messages:
                server.kill()
                await heard.wait(EventKind.DISCONNECTED)
                sent = 0
                with pytest.raises(natsery.OutboundBufferError):
                    while True:
                        await nc.publish("many", b"%d" % sent)
                        sent += 1
                server.start()
                received = [(await messages.receive()).data for _ in range(sent)]
                assert received == [b"%d" % number for number in range(sent)]
                await nc.publish("many", b"again")
                assert (await messages.receive()).data == b"again"


async def test_a_flush_waits_until_the_server_is_back() -> None:
    with NatsServer() as server:
        async with bounded(), natsery.connect(server.url, **QUICK) as nc:
            heard = Events(nc)
            server.kill()
            await heard.wait(EventKind.DISCONNECTED)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(nc.flush)
                await anyio.wait_all_tasks_blocked()
                server.start()
            assert nc.is_connected


class Failing:
    """A server that fails the first client at its n-th PING after CONNECT, and serves all others."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.is_first = True
        self.published = 0

    async def script(self, peer: Peer) -> None:
        pings = self.at if self.is_first else 1_000
        self.is_first = False
        await peer.greet()
        while pings:
            line = await peer.line()
            if line == b"PING":
                pings -= 1
                if pings:
                    await peer.send(b"PONG\r\n")
            elif line.startswith(b"PUB"):
                self.published += 1


async def test_a_flush_raises_if_what_was_sent_may_be_lost() -> None:
    """It returned as soon as the next server answered, which had nothing of what was sent."""
    failing = Failing(at=1)
    async with bounded(), scripted_server(failing.script) as url, natsery.connect(url, **QUICK) as nc:
        await nc.publish("a")
        with pytest.raises(natsery.ConnectionLostError, match="before it confirmed what was sent") as caught:
            await nc.flush()
        assert isinstance(caught.value.__cause__, natsery.ConnectionLostError)
        await nc.flush()
        assert nc.statistics().out_messages == 1


@pytest.mark.parametrize("at", [1, 2], ids=["nothing sent", "confirmed"])
async def test_a_flush_goes_on_with_the_next_server_if_nothing_is_lost(at: int) -> None:
    failing = Failing(at)
    async with bounded(), scripted_server(failing.script) as url, natsery.connect(url, **QUICK) as nc:
        for _ in range(at - 1):
            await nc.publish("a")
            await nc.flush()
        await nc.flush()
        assert nc.statistics().reconnects == 1
        await nc.publish("a")
        await nc.flush()
        assert failing.published == at


async def test_a_flush_that_was_cancelled_sends_no_ping_to_the_next_server() -> None:
    """Its PING was sent again, to each server after the one that had not answered it."""
    has_asked, may_end = anyio.Event(), anyio.Event()
    lines: list[bytes] = []

    async def script(peer: Peer) -> None:
        await peer.greet()
        if not has_asked.is_set():
            await peer.line_of(b"PING")
            has_asked.set()
            await may_end.wait()
            return
        while b"PUB marker 0" not in lines:
            lines.append(await peer.line())
        await peer.answer_pings()

    async with bounded(), scripted_server(script) as url, natsery.connect(url, **QUICK) as nc:
        heard = Events(nc)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(nc.flush)
            await has_asked.wait()
            tasks.cancel_scope.cancel()
        may_end.set()
        await heard.wait(EventKind.RECONNECTED)
        await nc.publish("marker")
        await nc.flush()
    assert lines == [b"PUB marker 0"]


async def test_a_flush_for_what_waits_for_the_server_goes_on_with_the_next_one() -> None:
    """What was sent while no server was there is not lost with the one before."""
    failing = Failing(at=1)
    async with bounded(), scripted_server(failing.script) as url:
        async with natsery.connect(url, reconnect_wait=0.2, max_reconnect_wait=0.2) as nc:
            heard = Events(nc)
            with pytest.raises(natsery.ConnectionLostError):
                await nc.publish("lost")
                await nc.flush()
            await heard.wait(EventKind.DISCONNECTED)
            await nc.publish("kept")
            await nc.flush()
            assert failing.published == 2


@pytest.mark.parametrize("way", ["block", "serve", "drain"])
async def test_what_is_sent_again_is_waited_for_although_messages_are_lost(way: str) -> None:
    """Subscribing, serving and draining go on with the next server."""
    failing = Failing(at=1)
    async with bounded(), scripted_server(failing.script) as url, natsery.connect(url, **QUICK) as nc:
        await nc.publish("lost")
        if way == "block":
            async with nc.subscribe("a"):
                assert nc.statistics().reconnects == 1
        elif way == "drain":
            await nc.drain()
            assert nc.statistics().reconnects == 1
        else:
            async with natsery.serve(nc, config(add)):
                assert nc.statistics().reconnects == 1


@pytest.mark.parametrize("at", range(1, 6))
async def test_a_service_is_left_although_the_server_fails_at_a_fence(at: int) -> None:
    failing = Failing(at)
    async with bounded(), scripted_server(failing.script) as url, natsery.connect(url, **QUICK) as nc:
        async with natsery.serve(nc, config(add)) as service:
            await nc.publish("lost")
        assert service.stats().endpoints[0].num_errors == 0


async def test_a_connection_that_may_not_reconnect_closes() -> None:
    with NatsServer() as server:
        async with bounded(), natsery.connect(server.url, reconnect=False) as nc:
            server.kill()
            await nc.wait_closed()
            with pytest.raises(natsery.ConnectionClosedError, match="the network"):
                await nc.publish("a")


async def test_a_connection_gives_up_after_its_rounds() -> None:
    with NatsServer() as server:
        async with bounded(), natsery.connect(server.url, max_reconnect_rounds=2, **QUICK) as nc:
            heard = Events(nc)
            with pytest.raises(natsery.ConnectionClosedError, match="cannot connect to NATS"):
                async with natsery.serve(nc, config(add)) as service:
                    server.kill()
                    await service.wait_stopped()
            assert isinstance(heard.seen[-1].error, natsery.ConnectError)
            with pytest.raises(natsery.ConnectionClosedError, match="cannot connect to NATS"):
                await nc.flush()


async def test_whoever_waits_hears_of_the_end() -> None:
    """A flush and a request under way when the connection gives up must not hang."""

    async def silent(peer: Peer) -> None:
        await peer.greet()
        await peer.line_of(b"PUB")

    async with bounded(), scripted_server(silent) as url:
        async with natsery.connect(url, reconnect=False) as nc:
            errors = []

            async def expect(operation: object) -> None:
                with pytest.raises(natsery.ConnectionClosedError) as caught:
                    await operation()  # type: ignore[operator]
                errors.append(caught.value)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(expect, nc.flush)
                tasks.start_soon(expect, lambda: nc.request("a"))
            assert len(errors) == 2


async def test_a_frozen_server_with_a_full_send_buffer_is_left_for_another() -> None:
    with NatsServer() as frozen, NatsServer() as other:
        async with (
            bounded(),
            natsery.connect([frozen.url, other.url], shuffle=False, **PINGS, **QUICK) as nc,
        ):
            heard = Events(nc)
            payload = bytes(1_000_000)

            async def fill() -> None:
                await nc.publish("big", payload)

            frozen.freeze()
            async with anyio.create_task_group() as tasks:
                for _ in range(12):
                    tasks.start_soon(fill)
                await anyio.wait_all_tasks_blocked()
                lose_patience(nc)
                await heard.wait(EventKind.RECONNECTED)
            assert nc.server_info.port == other.port
            await nc.flush()
            lost = next(event.error for event in heard.seen if event.kind is EventKind.DISCONNECTED)
            assert re.search(r"has not answered \d+ PINGs", str(lost))


async def test_a_scope_is_left_while_the_server_is_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("natsery._native._native_connection.CLOSE_SECONDS", 0.1)
    with NatsServer() as server:
        async with bounded():
            async with natsery.connect(server.url) as nc:
                server.freeze()
                async with anyio.create_task_group() as tasks:
                    for _ in range(12):
                        tasks.start_soon(nc.publish, "big", bytes(1_000_000))
                    await anyio.wait_all_tasks_blocked()
                    tasks.cancel_scope.cancel()


async def test_a_lame_duck_is_left_before_it_ends_and_nothing_is_lost() -> None:
    with cluster("lame_duck_duration: 30s, lame_duck_grace_period: 1s") as (lame, other):
        async with bounded(), natsery.connect(lame.url, shuffle=False) as nc:
            async with natsery.connect(other.url) as client:
                heard = Events(nc)
                received: list[bytes] = []
                subscription = await nc.add_subscription("numbers", lambda message: received.append(message.data))
                async with natsery.serve(nc, config(add)):
                    lame.lame_duck()
                    for number in itertools.count():
                        await nc.publish("numbers", b"%d" % number)
                        if number % 10 == 0:
                            await client.flush()
                        if heard.seen and heard.seen[-1].kind is EventKind.RECONNECTED:
                            break
                    await nc.flush()
                    await nc.flush()
                    assert nc.server_info.port == other.port
                    assert [event.kind for event in heard.seen] == ["lame_duck", "disconnected", "reconnected"]
                    # What this connection sent itself comes back from one server or the other, in order and once.
                    assert received == sorted(received, key=int)
                    assert len(received) == len(set(received))
                    reply = await client.request("add", b"1+1")
                    assert reply.data == b"2"
                await subscription.unsubscribe()


async def test_servers_of_a_cluster_are_discovered() -> None:
    with cluster() as (one, other):
        async with bounded(), natsery.connect(one.url, **QUICK) as nc:
            heard = Events(nc)
            assert any(str(other.port) in url for url in nc.servers)
            one.kill()
            await heard.wait(EventKind.RECONNECTED)
            assert nc.server_info.port == other.port


@pytest.mark.parametrize(
    "garbage",
    [
        b"HELLO\r\n",
        b"MSG a 1\r\n",
        b"MSG a 1 2\r\nabc\r\n",
        b"INFO {\r\n",
        b"\r\n",
        b"\x00" * 10,
        b"MSG a 1 99999999999\r\n",
    ],
    ids=["verb", "fields", "size", "info", "empty", "zeros", "huge"],
)
async def test_a_stream_that_breaks_the_protocol_is_replaced(garbage: bytes) -> None:
    clients = 0

    async def script(peer: Peer) -> None:
        nonlocal clients
        clients += 1
        await peer.greet()
        if clients == 1:
            await peer.send(garbage)
        await peer.answer_pings()

    async with bounded(), scripted_server(script) as url, natsery.connect(url, **QUICK) as nc:
        heard = Events(nc)
        await heard.wait(EventKind.RECONNECTED)
        assert isinstance(heard.seen[0].error, natsery.ProtocolError)
        await nc.flush()


@pytest.mark.parametrize(
    "odd",
    [
        b"MSG a\xff 1 1\r\nx\r\n",
        b"MSG a 1 r\xff 1\r\nx\r\n",
        b"HMSG a 1 4 5\r\nNATSx\r\n",
        b"HMSG a 1 14 15\r\nNATS/1.0\r\nab\r\nx\r\n",
        b"HMSG a 1 17 18\r\nNATS/1.0\r\na:\xff\r\n\r\nx\r\n",
    ],
    ids=["subject", "reply", "headers-cut", "headers-no-colon", "headers-text"],
)
async def test_an_odd_message_is_dropped_counted_and_reported(odd: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.line_of(b"SUB")
        await peer.send(odd + b"MSG a 1 4\r\nfine\r\n")
        await peer.answer_pings()

    async with bounded(), scripted_server(script) as url, natsery.connect(url) as nc:
        heard = Events(nc)
        received: list[Message] = []
        await nc.add_subscription("a", received.append)
        await nc.flush()
        assert [message.data for message in received] == [b"fine"]
        assert nc.statistics().malformed == 1
        assert isinstance(heard.seen[0].error, natsery.MalformedMessageError)
        assert nc.is_connected


async def test_a_complaint_that_closes_is_the_reason() -> None:
    clients = 0

    async def script(peer: Peer) -> None:
        nonlocal clients
        clients += 1
        await peer.greet()
        if clients == 1:
            await peer.send(b"-ERR 'Stale Connection'\r\n")
            return
        await peer.answer_pings()

    async with bounded(), scripted_server(script) as url, natsery.connect(url, **QUICK) as nc:
        heard = Events(nc)
        event = await heard.wait(EventKind.DISCONNECTED)
        assert str(event.error) == "the server reports an error: Stale Connection"
        await heard.wait(EventKind.RECONNECTED)


@pytest.mark.parametrize("complaint", ['Permissions Violation for Publish to "denied"', "Invalid Publish Subject"])
async def test_a_complaint_that_has_closed_nothing_is_not_the_reason_of_what_comes_later(complaint: str) -> None:
    """The log blamed a denied reply of hours ago for a restart, and a request to that subject failed with it."""
    clients = 0
    has_gone_on = anyio.Event()

    async def script(peer: Peer) -> None:
        nonlocal clients
        clients += 1
        await peer.greet()
        if clients > 1:
            await peer.answer_pings()
        await peer.send(f"-ERR '{complaint}'\r\n".encode())
        if "Permissions" not in complaint:  # which never ends a connection; what others say is over with the next PONG
            await peer.line_of(b"PING")
            await peer.send(b"PONG\r\n")
            await has_gone_on.wait()

    async with bounded(), scripted_server(script) as url, natsery.connect(url, **QUICK) as nc:
        heard = Events(nc)
        if "Permissions" not in complaint:
            await nc.flush()
            has_gone_on.set()
        event = await heard.wait(EventKind.DISCONNECTED)
        assert str(event.error) == "the server closed the network connection"


async def test_a_complaint_that_is_not_meant_to_close_closes_nothing() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.send(b"-ERR 'Invalid Publish Subject'\r\n-ERR '\xff'\r\n")
        await peer.answer_pings()

    async with bounded(), scripted_server(script) as url, natsery.connect(url) as nc:
        heard = Events(nc)
        await nc.flush()
        assert [event.kind for event in heard.seen] == ["error", "error"]
        assert nc.is_connected


async def test_too_many_subscriptions_name_the_one_that_is_refused() -> None:
    with NatsServer("max_subscriptions: 2") as server:
        async with bounded(), natsery.connect(server.url) as nc:
            denied: list[str] = []
            for subject in ("a", "b", "c", "d"):
                await nc.add_subscription(
                    subject, lambda message: None, on_error=lambda error, subject=subject: denied.append(subject)
                )
            await nc.flush()
            assert sorted(denied) == ["c", "d"]


async def test_a_smaller_max_payload_after_a_restart_is_respected() -> None:
    with NatsServer() as server:
        async with bounded(), natsery.connect(server.url, **QUICK) as nc:
            heard = Events(nc)
            await nc.publish("a", bytes(2000))
            server.restart("max_payload: 1000")
            await heard.wait(EventKind.RECONNECTED)
            assert nc.max_payload == 1000
            with pytest.raises(natsery.MaxPayloadError):
                await nc.publish("a", bytes(2000))


async def test_a_server_that_takes_a_connection_only_to_end_it_is_not_run_against() -> None:
    pauses: list[float] = []
    clients = 0

    async def script(peer: Peer) -> None:
        nonlocal clients
        clients += 1
        await peer.greet()
        if clients == 6:
            await peer.answer_pings()

    async with bounded(), scripted_server(script) as url:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("random.uniform", lambda low, high: pauses.append(high) or 0)
            async with natsery.connect(url, reconnect_wait=0.1, max_reconnect_wait=1.0) as nc:
                await Events(nc).wait(EventKind.RECONNECTED, 5)
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.0]


async def test_what_waits_is_sent_when_the_server_is_back_in_time_for_the_end() -> None:
    with NatsServer() as server:
        async with bounded():
            async with natsery.connect(server.url, **QUICK) as nc:
                heard = Events(nc)
                server.kill()
                await heard.wait(EventKind.DISCONNECTED)
                await nc.publish("last", b"words")
                server.start()
            assert server.monitor("varz")["in_msgs"] == 1


class Taker:
    """Two servers: one that takes nothing and is then left in some way, and one that takes all."""

    def __init__(self) -> None:
        self.must_leave = anyio.Event()
        self.taken: list[int] = []
        self.is_first = True

    async def publish(self, nc: natsery.abc.Connection, count: int) -> None:
        """More than the first server can be sent."""

        async def publish() -> None:
            for number in range(count):
                await nc.publish(f"a.{number}", bytes(60_000))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(publish)
            await anyio.wait_all_tasks_blocked()
            self.must_leave.set()

    async def take(self, peer: Peer) -> None:
        await peer.greet(max_payload=100_000)
        while True:
            verb, *fields = (await peer.line()).split()
            if verb == b"PING":
                await peer.send(b"PONG\r\n")
            elif verb == b"PUB":
                self.taken.append(int(fields[0][2:]))
                await peer.line()


async def test_messages_that_a_broken_server_has_not_taken_go_to_the_next_and_are_counted_once() -> None:
    taker = Taker()

    async def script(peer: Peer) -> None:
        if not taker.is_first:
            await taker.take(peer)
        taker.is_first = False
        await peer.greet(max_payload=100_000)
        await taker.must_leave.wait()

    async with bounded(), scripted_server(script) as url, natsery.connect(url, max_pending_bytes=10**8, **QUICK) as nc:
        await taker.publish(nc, 300)
        await nc.flush()
        assert taker.taken
        assert taker.taken == sorted(taker.taken)
        assert taker.taken[-1] == 299
        statistics = nc.statistics()
        assert statistics.out_messages == 300
        assert nc.pending_bytes == 0


async def test_messages_that_a_lame_duck_does_not_take_go_to_the_next_and_are_counted_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_native_connection, "MOVE_SECONDS", 0.1)
    taker = Taker()

    async def lame_duck(peer: Peer) -> None:
        await peer.greet(max_payload=100_000)
        await taker.must_leave.wait()
        await peer.send_info(ldm=True, max_payload=100_000)
        await anyio.sleep_forever()

    async with bounded(), scripted_server(lame_duck) as first, scripted_server(taker.take) as second:
        async with natsery.connect([first, second], shuffle=False, max_pending_bytes=10**8) as nc:
            await taker.publish(nc, 300)
            await nc.flush()
            assert nc.servers[0] == first
            assert taker.taken
            assert taker.taken == list(range(taker.taken[0], 300))
            statistics = nc.statistics()
            assert statistics.out_messages == 300
            assert statistics.reconnects == 1
            assert nc.pending_bytes == 0


async def test_a_flush_while_a_lame_duck_is_left_raises_if_what_it_took_may_be_lost() -> None:
    """It returned with the next server's answer, although the first one had ended without confirming what it had taken."""
    must_leave, has_left = anyio.Event(), anyio.Event()

    async def lame_duck(peer: Peer) -> None:
        await peer.greet()
        await peer.line_of(b"PUB")
        await must_leave.wait()
        await peer.send_info(ldm=True)
        await peer.line_of(b"PING")
        await has_left.wait()

    async def following(peer: Peer) -> None:
        await peer.greet()
        await peer.answer_pings()

    async with bounded(), scripted_server(lame_duck) as first, scripted_server(following) as second:
        async with natsery.connect([first, second], shuffle=False) as nc:
            heard = Events(nc)
            await nc.publish("taken")
            must_leave.set()
            await heard.wait(EventKind.DISCONNECTED)
            async with anyio.create_task_group() as tasks:

                async def end() -> None:
                    await anyio.wait_all_tasks_blocked()
                    has_left.set()

                tasks.start_soon(end)
                with pytest.raises(natsery.ConnectionLostError):
                    await nc.flush()
            await heard.wait(EventKind.RECONNECTED)
            await nc.flush()


async def ended(peer: Peer) -> None:
    """Until the client has gone."""
    with pytest.raises((anyio.IncompleteRead, anyio.EndOfStream, anyio.BrokenResourceError)):
        while True:
            await peer.line()


async def test_a_lame_duck_is_not_left_for_another_one() -> None:
    """Nor is a connection to that one left open."""
    must_leave, has_ended, is_lame = anyio.Event(), anyio.Event(), True

    async def first(peer: Peer) -> None:
        await peer.greet()
        await must_leave.wait()
        await peer.send_info(ldm=True)
        await has_ended.wait()

    async def second(peer: Peer) -> None:
        await peer.greet(ldm=is_lame)
        if is_lame:
            await ended(peer)
            has_ended.set()
        else:
            await peer.answer_pings()

    async with bounded(), scripted_server(first) as one, scripted_server(second) as two:
        async with natsery.connect([one, two], shuffle=False, **QUICK) as nc:
            heard = Events(nc)
            must_leave.set()
            await has_ended.wait()
            is_lame = False
            await heard.wait(EventKind.RECONNECTED)
            await nc.flush()
            # It held on to the first server until that has gone.
            assert [event.kind for event in heard.seen][:3] == ["lame_duck", "disconnected", "reconnected"]
            assert heard.seen[1].error is not None


async def test_a_connection_that_is_closed_while_a_lame_duck_is_left_leaves_nothing_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_native_connection, "CLOSE_SECONDS", 0.05)
    must_leave = anyio.Event()
    have_ended = [anyio.Event(), anyio.Event()]

    async def first(peer: Peer) -> None:
        await peer.greet()
        await must_leave.wait()
        await peer.send_info(ldm=True)  # and it never confirms that the client has left
        await ended(peer)
        have_ended[0].set()

    async def second(peer: Peer) -> None:
        await peer.greet()
        await ended(peer)
        have_ended[1].set()

    async with bounded(), scripted_server(first) as one, scripted_server(second) as two:
        async with natsery.connect([one, two], shuffle=False) as nc:
            heard = Events(nc)
            must_leave.set()
            await heard.wait(EventKind.DISCONNECTED)
        for has_ended in have_ended:
            await has_ended.wait()


@pytest.mark.parametrize("is_whole", [True, False], ids=["service", "endpoint"])
async def test_a_service_that_stops_while_a_lame_duck_is_left_answers_what_that_has_sent(
    is_whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was refused, or not answered at all: nobody waited for the server that was being left."""
    monkeypatch.setattr("natsery._service._service.FENCE_SECONDS", HANG_SECONDS)
    monkeypatch.setattr(_native_connection, "MOVE_SECONDS", HANG_SECONDS)
    must_leave, may_deliver = anyio.Event(), anyio.Event()
    answers: list[bytes] = []

    async def first(peer: Peer) -> None:
        await peer.greet()
        sid = (await peer.line_of(b"SUB add")).split()[-1]
        await peer.line_of(b"PING")
        await peer.send(b"PONG\r\n")
        await must_leave.wait()
        await peer.send_info(ldm=True)
        await peer.line_of(b"PING")
        await may_deliver.wait()
        await peer.send(b"MSG add %b _INBOX.me 3\r\n1+2\r\nPONG\r\n" % sid)
        await ended(peer)

    async def second(peer: Peer) -> None:
        await peer.greet()
        while True:
            line = await peer.line_of(b"PING", b"PUB", b"HPUB")
            if line == b"PING":
                await peer.send(b"PONG\r\n")
            else:
                answers.append(line + b" " + await peer.line())

    async def deliver() -> None:
        await anyio.wait_all_tasks_blocked()
        may_deliver.set()

    async with bounded(), scripted_server(first) as one, scripted_server(second) as two:
        async with natsery.connect([one, two], shuffle=False) as nc, anyio.create_task_group() as tasks:
            heard = Events(nc)
            async with natsery.serve(nc, config(add)) as service:
                endpoint = service.endpoints[0]
                must_leave.set()
                await heard.wait(EventKind.DISCONNECTED)
                tasks.start_soon(deliver)
                if not is_whole:
                    await endpoint.remove()
                    assert endpoint.stats().num_requests == 1
            await nc.flush()
            assert answers == [b"PUB _INBOX.me 1 3"]
            assert (endpoint.stats().num_requests, endpoint.stats().num_errors) == (1, 0)


async def test_nobody_waits_for_a_lame_duck_that_has_been_left() -> None:
    is_over = False

    async def answer_until_told(peer: Peer) -> None:
        while await peer.line_of(b"PING", b"PUB") == b"PING":
            await peer.send(b"PONG\r\n")

    async def first(peer: Peer) -> None:
        if is_over:
            await ended(peer)
        await peer.greet()
        await answer_until_told(peer)
        await peer.send_info(ldm=True)
        await peer.answer_pings()

    async def second(peer: Peer) -> None:
        if is_over:
            await ended(peer)
        else:
            await peer.greet()
            await answer_until_told(peer)

    async with bounded(), scripted_server(first) as one, scripted_server(second) as two:
        async with natsery.connect([one, two], shuffle=False, **QUICK) as nc:
            heard = Events(nc)
            async with natsery.serve(nc, config(add)) as service:
                await nc.publish("leave")
                await heard.wait(EventKind.RECONNECTED)
                is_over = True
                await nc.publish("end")
                await heard.wait(EventKind.DISCONNECTED, 2)
                await service.endpoints[0].remove()


async def test_what_was_sent_to_a_lame_duck_reaches_it_when_the_connection_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_native_connection, "CLOSE_SECONDS", HANG_SECONDS)
    monkeypatch.setattr(_native_connection, "MOVE_SECONDS", HANG_SECONDS)
    must_leave, may_read = anyio.Event(), anyio.Event()
    received: list[bytes] = []

    async def first(peer: Peer) -> None:
        await peer.greet(max_payload=65_536)
        await must_leave.wait()
        await peer.send_info(ldm=True, max_payload=65_536)
        await may_read.wait()
        while await peer.line_of(b"PING", b"PUB") != b"PING":
            received.append(await peer.line())
        await peer.send(b"PONG\r\n")
        await ended(peer)

    async def second(peer: Peer) -> None:
        await peer.greet()
        await peer.answer_pings()

    async def read() -> None:
        await anyio.wait_all_tasks_blocked()
        may_read.set()

    async with (
        bounded(),
        scripted_server(first) as one,
        scripted_server(second) as two,
        anyio.create_task_group() as tasks,
    ):
        async with natsery.connect([one, two], shuffle=False) as nc:
            heard = Events(nc)
            published = 0
            while nc.pending_bytes < HIGH_WATER_BYTES // 2:  # the network takes no more
                await nc.publish("x", bytes(40_000))
                published += 1
            must_leave.set()
            await heard.wait(EventKind.DISCONNECTED)
            tasks.start_soon(read)
        assert len(received) == published


async def test_closing_does_not_wait_for_credentials_that_are_never_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that cannot be cancelled held up what closes the network connection."""
    monkeypatch.setattr(_native_connection, "CLOSE_SECONDS", 0.05)
    must_leave, has_asked, may_answer, has_ended = (anyio.Event() for _ in range(4))

    async def token() -> str:
        if must_leave.is_set():
            has_asked.set()
            with anyio.CancelScope(shield=True):
                await may_answer.wait()
        return "t"

    async def first(peer: Peer) -> None:
        await peer.greet()
        await must_leave.wait()
        await peer.send_info(ldm=True)
        await ended(peer)
        has_ended.set()

    async def second(peer: Peer) -> None:
        await peer.send_info()
        await ended(peer)

    async with bounded(), scripted_server(first) as one, scripted_server(second) as two:
        async with natsery.connect([one, two], shuffle=False, token=token) as nc:
            must_leave.set()
            await has_asked.wait()
            await nc.aclose()
            assert nc.is_closed
            assert not nc.is_connected
            await has_ended.wait()
            may_answer.set()


async def test_subscriptions_made_and_ended_while_the_server_is_away() -> None:
    with NatsServer() as server:
        async with bounded(), natsery.connect(server.url, **QUICK) as nc:
            heard = Events(nc)
            received: list[bytes] = []
            server.kill()
            await heard.wait(EventKind.DISCONNECTED)
            ended = await nc.add_subscription("news", lambda _: received.append(b"ended"))
            await nc.add_subscription("news", lambda message: received.append(message.data))
            await ended.unsubscribe()
            await ended.unsubscribe()
            server.start()
            await heard.wait(EventKind.RECONNECTED)
            await nc.publish("news", b"x")
            await nc.flush()
            assert received == [b"x"]


async def test_what_nobody_has_thought_of_ends_the_network_connection_and_is_logged(
    nats_server: NatsServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bounded(), natsery.connect(nats_server.url, **QUICK) as nc:
        heard = Events(nc)
        assert nc._session is not None
        stream = nc._session.link.stream
        assert isinstance(stream, DirectStream)

        async def send(item: bytes) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(stream, "send", send)
        await nc.flush()
        assert isinstance((await heard.wait(EventKind.DISCONNECTED)).error, ZeroDivisionError)
        await heard.wait(EventKind.RECONNECTED)
        await nc.flush()
    (record,) = [each for each in caplog.records if each.exc_info]
    assert f"the NATS connection to {nats_server.url} failed unexpectedly" in record.getMessage()
