"""What a native connection offers beyond the seam."""

from __future__ import annotations

import logging
import socket

import anyio
import pytest

import natsery
from natsery import EventKind, Message
from natsery._native._native_connection import NativeConnection

from ..bounds import bounded
from ..server import NatsServer
from .scripted import Peer, scripted_server
from .tools import stall_error

pytestmark = pytest.mark.anyio


async def test_it_says_what_it_is_connected_to(nats_server: NatsServer) -> None:
    async with bounded(), natsery.connect(nats_server.url, name="me") as nc:
        assert nc.is_connected
        assert not nc.is_closed
        assert nc.server_info.port == nats_server.port
        assert nc.max_payload == nc.server_info.max_payload == 1024 * 1024
        assert nc.servers == (nats_server.url,)
        assert await nc.rtt() > 0
        names = [each.get("name") for each in nats_server.monitor("connz")["connections"]]
        assert "me" in names
    assert nc.is_closed
    assert not nc.is_connected


async def test_it_counts_messages_and_bytes(nats_server: NatsServer) -> None:
    async with bounded(), natsery.connect(nats_server.url) as nc:
        async with nc.subscribe("counted") as messages:
            for _ in range(3):
                await nc.publish("counted", b"12345", headers={"a": "b"})
            for _ in range(3):
                await messages.receive()
        await nc.flush()
        statistics = nc.statistics()
        assert (statistics.in_messages, statistics.out_messages) == (3, 3)
        frame = len(b"HPUB counted 18 23\r\nNATS/1.0\r\na: b\r\n\r\n12345\r\n")
        assert statistics.out_bytes >= 3 * frame
        assert statistics.in_bytes > 3 * frame
        assert (statistics.malformed, statistics.reconnects) == (0, 0)


async def test_a_closed_connection_keeps_its_statistics(nats_server: NatsServer) -> None:
    """The bytes that the last session had received were missing once the connection had closed."""
    async with bounded(), natsery.connect(nats_server.url) as nc:
        async with nc.subscribe("counted") as messages:
            await nc.publish("counted", b"12345")
            await messages.receive()
        await nc.flush()
        before = nc.statistics()
    after = nc.statistics()
    assert after.in_bytes >= before.in_bytes > len(b"MSG counted 1 5\r\n12345\r\n")
    assert after.out_bytes >= before.out_bytes
    assert (after.in_messages, after.out_messages) == (1, 1)


async def test_the_events_of_a_connection(nats_server: NatsServer) -> None:
    with NatsServer() as server:
        async with bounded(), natsery.connect(server.url, reconnect_wait=0.01, max_reconnect_wait=0.01) as nc:
            with nc.events() as events:
                assert (await anext(events)).kind is EventKind.CONNECTED
                server.kill()
                assert (await anext(events)).kind is EventKind.DISCONNECTED
                with nc.events() as others:
                    assert (await anext(others)).kind is EventKind.DISCONNECTED
                server.start()
                assert (await anext(events)).kind is EventKind.RECONNECTED
                await nc.aclose()
                assert [event.kind async for event in events] == [EventKind.CLOSED]
            with nc.events() as events:
                assert [event.kind async for event in events] == [EventKind.CLOSED]


async def test_a_slow_loop_hears_of_what_it_missed(nats_server: NatsServer) -> None:
    async with bounded(), natsery.connect(nats_server.url) as nc:
        async with nc.subscribe("fast", max_pending=2) as messages:
            for number in range(5):
                await nc.publish("fast", b"%d" % number)
            await nc.flush()
            assert [(await messages.receive()).data for _ in range(2)] == [b"0", b"1"]
            with pytest.raises(natsery.SlowConsumerError, match="slow consumer on 'fast'"):
                await messages.receive()
            assert messages.dropped == 3
            await nc.publish("fast", b"5")
            assert (await messages.receive()).data == b"5"


@pytest.mark.parametrize("subject", ["", " ", "a b", "a\tb", "a\r\nPUB b 0", "a..b", ".a", "a.", "a.*", ">", "\ud800"])
async def test_a_subject_that_breaks_the_rules_is_refused(nats_server: NatsServer, subject: str) -> None:
    async with bounded(), natsery.connect(nats_server.url) as nc:
        for operation in (nc.publish, nc.request):
            with pytest.raises(ValueError, match="subject"):
                await operation(subject)
        if subject:
            with pytest.raises(ValueError, match="reply"):
                await nc.publish("fine", reply=subject)
        await nc.flush()
        assert nc.statistics().out_messages == 0


async def test_a_subject_longer_than_the_servers_line_is_refused(nats_server: NatsServer) -> None:
    async with bounded(), natsery.connect(nats_server.url) as nc:
        with pytest.raises(ValueError, match="longer than 4056 bytes"):
            await nc.publish("é" * 2029)
        with pytest.raises(ValueError, match="longer than 4056 bytes"):
            await nc.add_subscription("a" * 5000, lambda message: None)
        received: list[Message] = []
        await nc.add_subscription("é" * 2028, received.append)
        await nc.publish("é" * 2028)
        await nc.flush()
        assert len(received) == 1


async def test_a_message_over_the_servers_limit_is_refused_headers_counted() -> None:
    with NatsServer("max_payload: 100") as server:
        async with bounded(), natsery.connect(server.url) as nc:
            await nc.publish("a", bytes(100))
            with pytest.raises(natsery.MaxPayloadError, match="101 bytes"):
                await nc.publish("a", bytes(101))
            with pytest.raises(natsery.MaxPayloadError, match="118 bytes"):
                await nc.publish("a", bytes(100), headers={"a": "b"})
            await nc.flush()


async def test_data_that_is_no_bytes_is_refused_with_what_to_write(nats_server: NatsServer) -> None:
    async with bounded(), natsery.connect(nats_server.url) as nc:
        with pytest.raises(TypeError, match="write text"):
            await nc.publish("a", "text")  # type: ignore[arg-type]


async def test_repeated_headers_keep_their_values(nats_server: NatsServer) -> None:
    async with bounded(), natsery.connect(nats_server.url) as nc, nc.subscribe("a") as messages:
        await nc.publish("a", headers=[("Tag", "one"), ("tag", "two"), ("Other", "u")])
        headers = (await messages.receive()).headers
        assert headers.multi_items() == [("Tag", "one"), ("tag", "two"), ("Other", "u")]
        assert headers.get_all("TAG") == ["one", "two"]


async def test_without_echo_it_does_not_hear_itself(nats_server: NatsServer) -> None:
    async with bounded(), natsery.connect(nats_server.url, echo=False) as nc:
        received: list[Message] = []
        await nc.add_subscription("a", received.append)
        await nc.publish("a")
        await nc.flush()
        assert received == []


async def test_an_inbox_prefix_of_ones_own() -> None:
    permissions = '{ user: u, password: p, permissions: { publish: ">", subscribe: ["mine.>", "echo"] } }'
    with NatsServer(f"authorization {{ users: [{permissions}] }}") as server:
        async with bounded(), natsery.connect(server.url, user="u", password="p", inbox_prefix="mine") as nc:

            async def answer(message: Message) -> None:
                await nc.publish(message.reply, message.data)

            async with anyio.create_task_group() as tasks:
                await nc.add_subscription("echo", lambda message: tasks.start_soon(answer, message))
                assert (await nc.request("echo", b"1")).data == b"1"


async def test_a_denied_inbox_ends_the_request_instead_of_hanging() -> None:
    permissions = '{ user: u, password: p, permissions: { publish: ">", subscribe: ["other.>"] } }'
    with NatsServer(f"authorization {{ users: [{permissions}] }}") as server:
        async with bounded(), natsery.connect(server.url, user="u", password="p") as nc:
            with pytest.raises(natsery.SubscriptionDeniedError, match="_INBOX"):
                await nc.request("echo", b"1")


async def test_drain_takes_what_the_server_has_sent(nats_server: NatsServer) -> None:
    async with bounded(), natsery.connect(nats_server.url) as other:
        async with natsery.connect(nats_server.url) as nc:
            received: list[Message] = []
            await nc.add_subscription("many", received.append)
            await nc.flush()
            for _ in range(1000):
                await other.publish("many", bytes(100))
            await other.flush()
            await nc.drain()
            assert len(received) == 1000
            assert nc.is_closed


async def test_drain_of_a_closed_connection_does_nothing(nats_server: NatsServer) -> None:
    async with bounded(), natsery.connect(nats_server.url) as nc:
        await nc.drain()
        assert nc.is_closed
        await nc.drain()
        await nc.aclose()


async def test_senders_wait_for_a_slow_server_and_lose_nothing() -> None:
    may_read = anyio.Event()
    size = 0

    async def script(peer: Peer) -> None:
        nonlocal size
        await peer.greet(max_payload=100_000)
        await may_read.wait()
        while (line := await peer.line()) != b"PING":
            if not line.startswith(b"PUB"):
                size += len(line)
        await peer.send(b"PONG\r\n")
        await peer.answer_pings()

    async with bounded(), scripted_server(script) as url, natsery.connect(url) as nc:
        done = 0

        async def publish() -> None:
            nonlocal done
            for _ in range(10):
                await nc._send("a", bytes(50_000))
                done += 1

        async with anyio.create_task_group() as tasks:
            for _ in range(40):
                tasks.start_soon(publish)
            await anyio.wait_all_tasks_blocked()
            assert done < 400
            assert nc.pending_bytes > 0
            may_read.set()
        await nc.flush()
        assert size == 400 * 50_000
        assert nc.pending_bytes == 0


async def test_a_server_that_is_not_there() -> None:
    async with bounded():
        with pytest.raises(natsery.ConnectError, match=r"nats://127.0.0.1:1: .*[Rr]efused") as caught:
            async with natsery.connect(["nats://127.0.0.1:1", "nats://127.0.0.1:2"], shuffle=False):
                pass
        assert [server for server, _ in caught.value.failures] == ["nats://127.0.0.1:1", "nats://127.0.0.1:2"]


async def test_a_port_where_something_else_answers() -> None:
    async def script(peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with bounded(), scripted_server(script) as url:
        with pytest.raises(natsery.ConnectError, match="not the NATS protocol: unknown operation; received b'HTTP"):
            async with natsery.connect(url):
                pass


async def test_a_server_that_says_nothing() -> None:
    async def script(peer: Peer) -> None:
        await anyio.sleep_forever()

    async with bounded(), scripted_server(script) as url:
        error = await stall_error(url, "INFO, which a server that begins with TLS (tls_first) does not send")
        assert isinstance(error, natsery.ConnectError)


async def test_the_first_connect_can_wait_for_a_server(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "natsery")
    with NatsServer() as server:
        server.kill()
        async with bounded(), anyio.create_task_group() as tasks:
            is_connected = anyio.Event()

            async def connect() -> None:
                async with natsery.connect(server.url, retry_first_connect=True, reconnect_wait=0.01):
                    is_connected.set()

            tasks.start_soon(connect)
            while "Connection refused); trying again" not in caplog.text:
                await anyio.sleep(0)
            server.start()
            await is_connected.wait()


async def test_a_name_that_cannot_be_resolved_is_said_in_the_resolvers_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """It said "Unknown error -2": the number was taken for one of the system's."""

    async def connect_tcp(*_: object) -> None:
        raise OSError("All connection attempts failed") from socket.gaierror(socket.EAI_NONAME, "Name not known")

    monkeypatch.setattr(anyio, "connect_tcp", connect_tcp)
    async with bounded():
        with pytest.raises(natsery.ConnectError, match="Name not known"):
            async with natsery.connect("nats://[fe80::1%nowhere]:4222"):
                pytest.fail("it has connected")


async def test_subscriptions_that_come_and_go_are_forgotten(nats_server: NatsServer) -> None:
    """Without a flush, or a PING because the time has come."""
    async with bounded(), natsery.connect(nats_server.url) as nc:
        assert isinstance(nc, NativeConnection)
        made = 0
        while len(nc._subscriptions.by_sid) == made:  # until the server has answered
            made += 1
            subscription = await nc.add_subscription("a", print)
            await subscription.unsubscribe()
        await nc.flush()
        assert not nc._subscriptions.by_sid
