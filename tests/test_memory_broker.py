"""The broker in memory beyond the contract: faults, order, virtual time; and requests for handlers alone."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
import trio

import natsery
from natsery import ConnectionEvent, EventKind, Message
from natsery.testing import MemoryBroker, make_request

from .bounds import bounded
from .calc_service import add, config, error_of
from .conftest import BACKENDS, QUICK_BACKENDS
from .virtual_time import in_virtual_time

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[pytest.param(backend, id=name) for name, backend in BACKENDS.items()])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


async def test_a_service_in_memory() -> None:
    async with bounded(), MemoryBroker() as broker, broker.connect() as nc, broker.connect() as client:
        async with natsery.serve(nc, config(add)) as service:
            assert (await client.request("add", b"1+2")).data == b"3"
            assert error_of(await client.request("add", b"x")) == "400:expected 'a+b'"
            ping = await client.request("$SRV.PING")
            assert natsery.ServicePing.from_json(ping.data).id == service.id
        with pytest.raises(natsery.NoRespondersError):
            await client.request("add", b"1+2")


async def test_what_is_sent_while_away_waits_and_what_was_on_the_way_is_lost() -> None:
    async with bounded(), MemoryBroker() as broker, broker.connect() as nc, broker.connect() as other:
        events: list[ConnectionEvent] = []
        nc.add_listener(events.append)
        received: list[bytes] = []
        await nc.add_subscription("a", lambda message: received.append(message.data))
        await other.publish("a", b"on the way")
        broker.disconnect(nc)
        await other.publish("a", b"to nobody")
        await nc.publish("a", b"waits")
        assert not nc.is_connected
        broker.reconnect(nc)
        await nc.flush()
        assert received == [b"waits"]
        assert [event.kind for event in events] == [EventKind.DISCONNECTED, EventKind.RECONNECTED]


async def test_what_waits_while_away_has_a_limit() -> None:
    async with bounded(), MemoryBroker(max_payload=8 * 1024 * 1024) as broker, broker.connect() as nc:
        broker.disconnect(nc)
        await nc.publish("a", bytes(8 * 1024 * 1024 - 100))
        with pytest.raises(natsery.OutboundBufferError):
            await nc.publish("a", bytes(100))


async def test_a_service_survives_a_disconnect_and_falls_with_its_connection() -> None:
    async with bounded(), MemoryBroker() as broker, broker.connect() as client:
        with pytest.raises(natsery.ConnectionClosedError):
            async with broker.connect() as nc, natsery.serve(nc, config(add)) as service:
                broker.disconnect(nc)
                broker.reconnect(nc)
                assert (await client.request("add", b"1+2")).data == b"3"
                await nc.aclose()
                await service.wait_stopped()


async def test_permissions_that_change_end_a_service() -> None:
    async with bounded(), MemoryBroker() as broker, broker.connect() as nc:
        with pytest.raises(natsery.SubscriptionDeniedError, match="endpoint 'add'"):
            async with natsery.serve(nc, config(add)) as service:
                broker.permit(nc, subscribe=["$SRV.>"])
                await service.wait_stopped()
        broker.permit(nc, subscribe=["other.>"])
        with pytest.raises(natsery.SubscriptionDeniedError):
            async with natsery.serve(nc, config(add)):
                pass


async def test_a_slow_consumer_is_counted() -> None:
    async with bounded(), MemoryBroker() as broker, broker.connect() as nc, broker.connect() as client:
        async with natsery.serve(nc, config(add)) as service:
            broker.drop(nc, "add", 2)
            for _ in range(3):
                await client.publish("add", b"1+1", reply="nowhere")
            await client.request("add", b"1+2")
            stats = service.stats().endpoints[0]
            assert (stats.num_requests, stats.num_errors) == (4, 2)
            assert stats.failures["undeliverable"] == 2


async def test_wildcards_reach_whom_they_should() -> None:
    patterns = ("a.b", "a.*", "*.b", "a.>", ">", "a", "a.b.c", "a.*.c", "*")
    async with bounded(), MemoryBroker() as broker, broker.connect() as nc:
        received: list[str] = []
        for pattern in patterns:
            await nc.add_subscription(pattern, lambda message, pattern=pattern: received.append(pattern))
        for subject, expected in {
            "a": {"a", ">", "*"},
            "a.b": {"a.b", "a.*", "*.b", "a.>", ">"},
            "a.b.c": {"a.>", ">", "a.b.c", "a.*.c"},
            "x.y": {">"},
        }.items():
            received.clear()
            await nc.publish(subject)
            await nc.flush()
            assert set(received) == expected
            assert len(received) == len(expected)


async def order_of_events(seed: int) -> list[str]:
    order: list[str] = []
    async with MemoryBroker(seed=seed) as broker, broker.connect() as nc:
        for name in "abc":
            await nc.add_subscription(
                "work", lambda message, name=name: order.append(f"{name}{message.data.decode()}"), queue_group="q"
            )
        for number in range(20):
            await nc.publish("work", b"%d" % number)
        await nc.flush()
    return order


@pytest.mark.parametrize("anyio_backend", QUICK_BACKENDS)
async def test_one_seed_gives_one_order_and_another_seed_another() -> None:
    async with bounded():
        first = await order_of_events(1)
        for _ in range(1_000):
            assert await order_of_events(1) == first
        assert await order_of_events(2) != first


async def test_a_broker_must_be_entered_and_only_once() -> None:
    broker = MemoryBroker()
    with pytest.raises(RuntimeError, match="enter the broker first"):
        async with broker.connect():
            pass
    async with broker:
        pass
    with pytest.raises(RuntimeError, match="make another one"):
        async with broker:
            pass


async def test_connections_close_with_the_broker() -> None:
    async with bounded():
        async with MemoryBroker() as broker:
            connecting = broker.connect()
            nc = await connecting.__aenter__()
        assert nc.is_closed
        with pytest.raises(natsery.ConnectionClosedError):
            await nc.publish("a")
        await connecting.__aexit__(None, None, None)


async def test_a_handler_alone() -> None:
    request, answers = make_request(b"1+2")
    assert await add(request) == b"3"
    assert answers == []


async def test_a_handler_that_answers_itself() -> None:
    @natsery.endpoint
    async def item(request: natsery.Request) -> None:
        await request.respond(" ".join(request.tokens).encode(), headers={"a": "b"})
        await request.respond_error(404, "no such item")

    request, answers = make_request(subject="orders.7.items.3", pattern="orders.*.items.*", headers={"c": "d"})
    assert request.headers["c"] == "d"
    await item(request)
    first, second = answers
    assert (first.subject, first.data, first.headers["a"]) == ("_INBOX.test", b"7 3", "b")
    assert str(natsery.ServiceError.from_message(second)) == "404:no such item"


@pytest.mark.parametrize(
    ("arguments", "field"),
    [({"data": "text"}, "data"), ({"subject": "a.*"}, "subject"), ({"pattern": "a b"}, "pattern")],
)
async def test_a_request_that_breaks_the_rules(arguments: dict[str, Any], field: str) -> None:
    with pytest.raises(TypeError if field == "data" else ValueError, match=f"^{field}: "):
        make_request(**arguments)


async def test_a_made_request_knows_a_whole_endpoint() -> None:
    request, _ = make_request(subject="orders.7", pattern="orders.*", endpoint="orders")
    assert (request.endpoint.name, request.endpoint.subject, request.endpoint.queue_group) == (
        "orders",
        "orders.*",
        "q",
    )
    assert request.endpoint.metadata == {}
    assert request.endpoint.pending == 0
    assert request.endpoint.stats().num_requests == 0


async def test_a_made_request_has_a_connection_that_records() -> None:
    """A handler that publishes, subscribes and flushes can be tested alone, too."""

    async def note(request: natsery.Request) -> bytes:
        nc = request.connection
        async with nc.subscribe("notes") as notes:
            await nc.publish("notes", request.data, headers={"a": "b"})
            await nc.flush()
            return f"{nc.is_connected} {nc.max_payload} {notes._has_pending()}".encode()

    request, sent = make_request(b"1", reply="")
    assert await note(request) == b"True 1048576 False"
    assert [(each.subject, each.data, each.headers["a"]) for each in sent] == [("notes", b"1", "b")]
    await request.connection.aclose()
    assert not request.connection.is_connected
    with pytest.raises(natsery.ConnectionClosedError):
        await note(request)
    with pytest.raises(natsery.ConnectionClosedError):
        await request.connection.flush()
    with pytest.raises(natsery.ConnectionClosedError):
        await request.connection.add_subscription("a", print)


async def test_a_flush_that_waits_raises_when_the_broker_ends() -> None:
    """It waited for ever."""
    errors: list[Exception] = []

    async def flush(nc: natsery.abc.Connection) -> None:
        try:
            await nc.flush()
        except natsery.ConnectionClosedError as error:
            errors.append(error)

    async with bounded(), anyio.create_task_group() as tasks:
        async with MemoryBroker() as broker, broker.connect() as nc:
            broker.delay = 3600
            tasks.start_soon(flush, nc)
            await anyio.wait_all_tasks_blocked()
    assert len(errors) == 1


async def test_what_the_connection_drops_is_counted_by_its_subscriber() -> None:
    async with bounded(), MemoryBroker() as broker, broker.connect() as nc, nc.subscribe("a") as messages:
        for dropped in (2, 3):
            broker.drop(nc, "a", dropped)
            for _ in range(dropped):
                await nc.publish("a", b"dropped")
            await nc.flush()
            with pytest.raises(natsery.SlowConsumerError):
                await messages.receive()
        await nc.publish("a", b"taken")
        assert (await messages.receive()).data == b"taken"
        assert messages.dropped == 5


async def test_a_flush_waits_until_the_broker_is_there_and_has_passed_it() -> None:
    flushed: list[str] = []

    async def flush() -> None:
        await nc.flush()
        flushed.append(f"after {len(received)}")

    async with bounded(), MemoryBroker() as broker, broker.connect() as nc, anyio.create_task_group() as tasks:
        received: list[Message] = []
        events: list[ConnectionEvent] = []
        await nc.add_subscription("a", received.append)
        nc.add_listener(events.append)
        broker.disconnect(nc)
        broker.disconnect(nc)  # as a second failure before the connection is back
        await nc.publish("a")
        tasks.start_soon(flush)
        await anyio.wait_all_tasks_blocked()
        assert flushed == []
        broker.reconnect(nc)
        await anyio.wait_all_tasks_blocked()
        assert flushed == ["after 1"]
        broker.reconnect(nc)
        assert [event.kind for event in events] == [EventKind.DISCONNECTED, EventKind.RECONNECTED]


def test_a_flush_that_a_disconnect_overtakes_is_made_again() -> None:
    """What had been sent before it may be lost, and with it what the flush stood for."""

    async def main() -> None:
        async with MemoryBroker() as broker, broker.connect() as nc:
            await nc.add_subscription("a", lambda message: broker.disconnect(nc))
            broker.delay = 5
            begun = trio.current_time()
            await nc.publish("a")

            async def reconnect_later() -> None:
                await trio.sleep(100)
                broker.reconnect(nc)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(reconnect_later)
                await nc.flush()
            assert trio.current_time() - begun == pytest.approx(105)

    in_virtual_time(main)


async def test_an_answer_that_is_given_while_the_broker_is_away_waits() -> None:
    begun, go_on = anyio.Event(), anyio.Event()
    answers: list[bytes] = []

    async def slow(request: natsery.Request) -> bytes:
        begun.set()
        await go_on.wait()
        return b"answer"

    async def ask() -> None:
        answers.append((await nc.request("slow")).data)

    async with bounded(), MemoryBroker() as broker, broker.connect() as nc, broker.connect() as server:
        async with natsery.serve(server, config(slow)), anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await begun.wait()
            broker.disconnect(server)
            go_on.set()
            await anyio.wait_all_tasks_blocked()
            assert answers == []
            broker.reconnect(server)
    assert answers == [b"answer"]


@pytest.mark.parametrize("max_payload", [0, True, "1"])
def test_a_payload_limit_that_breaks_the_rule(max_payload: object) -> None:
    with pytest.raises(natsery.ConfigError, match=r"^max_payload: must be an int of at least 1; got "):
        MemoryBroker(max_payload=max_payload)  # type: ignore[arg-type]


@pytest.mark.parametrize("option", ["publish", "subscribe"])
async def test_permissions_are_several_subjects(option: str) -> None:
    """One text would be read as the subjects that its characters are."""
    async with bounded(), MemoryBroker() as broker:
        with pytest.raises(natsery.ConfigError, match=rf"^{option}: must be a sequence of subjects; got 'a'$"):
            async with broker.connect(**{option: "a"}):
                pass


def test_a_delay_in_virtual_time() -> None:
    async def main() -> None:
        async with MemoryBroker() as broker, broker.connect() as nc:
            arrived: list[tuple[float, Message]] = []
            await nc.add_subscription("a", lambda message: arrived.append((trio.current_time(), message)))
            broker.delay = 5
            begun = trio.current_time()
            await nc.publish("a")
            await nc.publish("a")
            await nc.flush()
            assert [time - begun for time, _ in arrived] == [pytest.approx(5), pytest.approx(10)]

    in_virtual_time(main)


async def test_no_two_connections_have_one_inbox() -> None:
    """One that was made after another had closed got the inbox of a third, and its replies."""
    async with MemoryBroker() as broker, broker.connect() as second:
        async with broker.connect():
            pass
        async with broker.connect() as third:
            assert second.new_inbox() != third.new_inbox()


async def test_headers_given_as_a_generator_arrive() -> None:
    async with MemoryBroker() as broker, broker.connect() as nc, nc.subscribe("a") as messages:
        await nc.publish("a", headers=(pair for pair in [("A", "b")]))
        assert (await messages.receive()).headers["A"] == "b"
