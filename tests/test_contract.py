"""The contract of `natsery.abc.Connection`, which every transport keeps on every backend, the broker in memory included."""

from __future__ import annotations

import itertools
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack

import anyio
import anyio.to_thread
import pytest

import natsery
from natsery import ConnectionEvent, EventKind, Message
from natsery._fast_path import Interest, fast_path
from natsery.abc import Connection
from natsery.testing import MemoryBroker
from natsery.testing._memory_connection import MemoryConnection

from .bounds import bounded
from .conftest import BACKENDS, MATRIX, open_connection
from .server import NatsServer

pytestmark = pytest.mark.anyio

MEMORY = [pytest.param((backend, "memory"), id=f"{name}-memory") for name, backend in BACKENDS.items()]


@pytest.fixture(params=[*MATRIX, *MEMORY])
def setting(request: pytest.FixtureRequest) -> object:
    return request.param


class Network:
    """A server of either kind, and connections to it."""

    def __init__(self, transport: str, server: NatsServer, broker: MemoryBroker, stack: AsyncExitStack) -> None:
        self._is_memory = transport == "memory"
        self._transport = transport
        self._server = server
        self._broker = broker
        self._stack = stack

    def connect(self) -> AbstractAsyncContextManager[Connection]:
        return self._broker.connect() if self._is_memory else open_connection(self._transport, self._server.url)

    def connect_with(self, publish: Sequence[str], subscribe: Sequence[str]) -> AbstractAsyncContextManager[Connection]:
        """A connection of a user who may do only this."""
        if self._is_memory:
            return self._broker.connect(publish=publish, subscribe=subscribe)
        self._own_server = self._stack.enter_context(NatsServer(self._config(publish, subscribe)))
        return open_connection(self._transport, self._own_server.url, user="u", password="p")

    def permit(self, nc: Connection, publish: Sequence[str], subscribe: Sequence[str]) -> None:
        """Change what the user of ``connect_with`` may do."""
        if self._is_memory:
            assert isinstance(nc, MemoryConnection)
            self._broker.permit(nc, publish=publish, subscribe=subscribe)
        else:
            self._own_server.reload(self._config(publish, subscribe))

    def _config(self, publish: Sequence[str], subscribe: Sequence[str]) -> str:
        quoted = ", ".join(f'"{each}"' for each in publish), ", ".join(f'"{each}"' for each in subscribe)
        permissions = f"permissions: {{ publish: [{quoted[0]}], subscribe: [{quoted[1]}] }}"
        return f"authorization {{ users: [{{ user: u, password: p, {permissions} }}] }}"

    def subscriptions(self) -> list[str]:
        if self._is_memory:
            return [each.subject for connection in self._broker._connections for each in connection._active()]
        return self._server.subscriptions()


@pytest.fixture
async def network(transport: str, nats_server: NatsServer) -> AsyncIterator[Network]:
    async with AsyncExitStack() as stack, MemoryBroker() as broker:
        yield Network(transport, nats_server, broker, stack)


@pytest.fixture
async def nc(network: Network) -> AsyncIterator[Connection]:
    async with network.connect() as connection:
        yield connection


class Letter(Message):
    """A message of a subscriber's own kind."""


async def test_messages_are_made_as_the_subscriber_says(nc: Connection) -> None:
    received: list[Message] = []
    await fast_path(nc)._subscribe(Interest("a", "", received.append, lambda _: None, Letter))
    await nc.add_subscription("a", received.append)
    await nc.publish("a", b"plain", reply="r")
    await nc.publish("a", b"with headers", headers={"Name": "value"})
    await nc.flush()
    kinds: dict[bytes, set[type]] = {b"plain": set(), b"with headers": set()}
    for message in received:
        kinds[message.data].add(type(message))
    assert kinds == {b"plain": {Letter, Message}, b"with headers": {Letter, Message}}
    assert repr(next(each for each in received if type(each) is Letter)).startswith("Letter(subject='a'")


async def test_messages_arrive_whole_and_in_order(nc: Connection) -> None:
    received: list[Message] = []
    await nc.add_subscription("a.*", received.append)
    await nc.publish("a.1", b"\r\nMSG\x00\xff", reply="r.é", headers={"Name": "value"})
    await nc.publish("a.é")
    for number in range(200):
        await nc.publish("a.n", b"%d" % number)
    await nc.flush()
    first, second, *others = received
    assert (first.subject, first.data, first.reply) == ("a.1", b"\r\nMSG\x00\xff", "r.é")
    assert first.headers["NAME"] == "value"
    assert (second.subject, second.data, second.reply, len(second.headers)) == ("a.é", b"", "", 0)
    assert [message.data for message in others] == [b"%d" % number for number in range(200)]


async def test_a_subscription_counts_what_it_delivered(nc: Connection) -> None:
    subscription = await nc.add_subscription("a", lambda message: None, queue_group="workers")
    for _ in range(3):
        await nc.publish("a")
    await nc.flush()
    assert (subscription.subject, subscription.queue_group) == ("a", "workers")
    assert (subscription.delivered, subscription.dropped) == (3, 0)


async def test_a_queue_group_shares_and_others_get_everything(nc: Connection) -> None:
    members: list[list[Message]] = [[], []]
    everything: list[Message] = []
    for member in members:
        await nc.add_subscription("a", member.append, queue_group="workers")
    await nc.add_subscription(">", everything.append)
    for _ in range(50):
        await nc.publish("a")
    await nc.flush()
    assert sum(map(len, members)) == 50
    assert all(members)
    assert len([message for message in everything if message.subject == "a"]) == 50


async def test_a_flush_is_a_fence_both_ways(nc: Connection, network: Network) -> None:
    received: list[Message] = []
    async with network.connect() as other:
        for turn in range(20):
            subject = f"fence.{turn}"
            await nc.add_subscription(subject, received.append)
            await nc.flush()  # the server knows the subscription
            for _ in range(10):
                await other.publish(subject)
            await other.flush()  # the server has the messages
            await nc.flush()  # and they are here
            assert len(received) == 10 * (turn + 1)


async def test_what_was_sent_before_the_end_of_a_subscription_is_delivered(nc: Connection, network: Network) -> None:
    async with network.connect() as other:
        for _ in range(20):
            received: list[Message] = []
            subscription = await nc.add_subscription("ending", received.append)
            await nc.flush()
            for _ in range(50):
                await other.publish("ending")
            await other.flush()
            await subscription.unsubscribe()
            await subscription.unsubscribe()  # safe twice
            await nc.flush()
            assert len(received) == 50
            await other.publish("ending")
            await other.flush()
            await nc.flush()
            assert len(received) == 50


async def test_a_request_gets_its_reply(nc: Connection) -> None:
    async with anyio.create_task_group() as tasks:

        async def answer(message: Message) -> None:
            await nc.publish(message.reply, message.data * 2, headers={"a": "b"})

        await nc.add_subscription("double", lambda message: tasks.start_soon(answer, message))
        reply = await nc.request("double", b"ab", headers={"c": "d"})
        assert (reply.data, reply.headers["a"]) == (b"abab", "b")

        async def ask(number: int) -> None:
            assert (await nc.request("double", b"%d" % number)).data == b"%d" % number * 2

        for number in range(100):
            tasks.start_soon(ask, number)


async def test_a_request_that_nobody_answers(nc: Connection) -> None:
    async with bounded():
        with pytest.raises(natsery.NoRespondersError, match="no subscription to 'nowhere'"):
            await nc.request("nowhere")
        await nc.add_subscription("silent", lambda message: None)
        with anyio.move_on_after(0.01) as scope:
            await nc.request("silent")
        assert scope.cancelled_caught
        await nc.flush()


async def test_cancelled_calls_send_nothing_and_harm_nothing(nc: Connection) -> None:
    received: list[Message] = []
    await nc.add_subscription("cancelled", received.append)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await nc.publish("cancelled", b"never")
    assert scope.cancelled_caught
    with anyio.CancelScope() as scope:
        scope.cancel()
        await nc.flush()
    assert scope.cancelled_caught
    # `_send` is for what must go out.
    with anyio.CancelScope() as scope:
        scope.cancel()
        await nc._send("cancelled", b"all the same")
    await nc.flush()
    assert [message.data for message in received] == [b"all the same"]


async def test_bad_input_is_refused_and_sends_nothing(nc: Connection) -> None:
    received: list[Message] = []
    await nc.add_subscription(">", received.append)
    await nc.flush()
    received.clear()
    for subject in ("", "a b", "a..b", "a.", "a.*"):
        with pytest.raises(ValueError, match="subject"):
            await nc.publish(subject)
        with pytest.raises(ValueError, match="subject"):
            await nc.request(subject)
    for subject in ("", "a b", "a..b", ">.a", "a*"):
        with pytest.raises(ValueError, match="subject"):
            await nc.add_subscription(subject, received.append)
    with pytest.raises(ValueError, match="queue_group"):
        await nc.add_subscription("a", received.append, queue_group="a b")
    with pytest.raises(ValueError, match="header"):
        await nc.publish("a", headers={"a": "b\r\nc: d"})
    with pytest.raises(natsery.MaxPayloadError):
        await nc.publish("a", bytes(nc.max_payload + 1))
    with pytest.raises(natsery.MaxPayloadError):
        await nc.publish("a", bytes(nc.max_payload), headers={"a": "b"})
    await nc.flush()
    assert received == []
    await nc.publish("a", bytes(nc.max_payload))
    await nc.flush()
    assert len(received) == 1


async def test_a_receiver_that_raises_harms_nobody(nc: Connection, caplog: pytest.LogCaptureFixture) -> None:
    def fail(message: Message) -> None:
        raise RuntimeError("this is expected")

    received: list[Message] = []
    await nc.add_subscription("a", fail)
    await nc.add_subscription("a", received.append)
    for _ in range(3):
        await nc.publish("a")
    await nc.flush()
    assert len(received) == 3
    assert "this is expected" in caplog.text


async def test_denied_subscriptions_and_messages_are_told(network: Network) -> None:
    async with bounded(), network.connect_with(["fine"], ["fine"]) as nc:
        events: list[ConnectionEvent] = []
        denied: list[natsery.NatseryError] = []
        received: list[Message] = []
        stop_listening = nc.add_listener(events.append)
        await nc.add_subscription("fine", received.append, on_error=denied.append)
        await nc.flush()
        assert denied == []
        await nc.add_subscription("Not.Fine", received.append, on_error=denied.append)
        await nc.flush()
        assert [(type(each), each.subject, each.queue_group) for each in denied] == [  # type: ignore[attr-defined]
            (natsery.SubscriptionDeniedError, "Not.Fine", ""),
        ]
        await nc.add_subscription("nobody.hears", received.append)
        await nc.flush()
        assert [str(event.error) for event in events] == [
            "the server denies subscribing to 'nobody.hears'; check this user's permissions"
        ]
        events.clear()
        await nc.publish("elsewhere")
        await nc.publish("fine")
        await nc.flush()
        assert len(received) == 1
        assert [type(event.error) for event in events if event.kind is EventKind.ERROR] == [natsery.PublishDeniedError]
        stop_listening()
        stop_listening()
        await nc.publish("elsewhere")
        await nc.flush()
        assert len(events) == 1


async def test_a_denied_queue_group_is_told(network: Network) -> None:
    async with bounded(), network.connect_with([">"], ["shared yes"]) as nc:
        denied: list[natsery.NatseryError] = []
        for queue_group in ("yes", "no", ""):
            await nc.add_subscription("shared", lambda message: None, queue_group=queue_group, on_error=denied.append)
        await nc.flush()
        assert [(each.subject, each.queue_group) for each in denied] == [  # type: ignore[attr-defined]
            ("shared", "no"),
            ("shared", ""),
        ]


async def test_a_block_of_messages_begins_and_ends_clean(nc: Connection, network: Network) -> None:
    with pytest.raises(ZeroDivisionError):
        async with nc.subscribe("block") as messages:
            assert "block" in network.subscriptions()
            await nc.publish("block", b"1")
            assert (await messages.receive()).data == b"1"
            raise ZeroDivisionError
    await nc.flush()
    assert "block" not in network.subscriptions()


async def test_everything_ends_with_the_connection(network: Network) -> None:
    async with bounded(), network.connect() as nc:
        events: list[ConnectionEvent] = []
        nc.add_listener(events.append)
        subscription = await nc.add_subscription("a", lambda message: None)
        assert (nc.is_connected, nc.is_closed) == (True, False)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(nc.wait_closed)
            await nc.aclose()
        await nc.aclose()  # safe twice
        assert (nc.is_connected, nc.is_closed) == (False, True)
        assert [event.kind for event in events] == [EventKind.CLOSED]
        await subscription.unsubscribe()
        with pytest.raises(natsery.ConnectionClosedError):
            await nc.publish("a")
        with pytest.raises(natsery.ConnectionClosedError):
            await nc.request("a")
        with pytest.raises(natsery.ConnectionClosedError):
            await nc.flush()
        with pytest.raises(natsery.ConnectionClosedError):
            await nc.add_subscription("a", lambda message: None)
        with pytest.raises(natsery.ConnectionClosedError):
            async with nc.subscribe("a"):
                pass


@pytest.mark.parametrize("must_close", [False, True], ids=["leave", "aclose"])
async def test_what_was_published_before_the_end_of_a_connection_is_sent(
    nc: Connection, network: Network, must_close: bool
) -> None:
    async with bounded(), nc.subscribe("last") as messages:
        for _ in range(20):
            async with network.connect() as other:
                for number in range(3):
                    await other.publish("last", b"%d" % number)
                if must_close:
                    await other.aclose()
            assert [(await messages.receive()).data for _ in range(3)] == [b"0", b"1", b"2"]


async def test_inboxes_are_the_connections_own(nc: Connection, network: Network) -> None:
    async with bounded(), network.connect() as other:
        inboxes = [nc.new_inbox(), nc.new_inbox(), other.new_inbox()]
        assert len(set(inboxes)) == 3
        assert all(each.startswith("_INBOX.") for each in inboxes)
        received: list[Message] = []
        await nc.add_subscription(inboxes[0], received.append)
        # Requests have an inbox as well, which must not hear of these.
        await nc.add_subscription("asked", lambda message: None)
        with anyio.move_on_after(0):
            await nc.request("asked")
        await nc.flush()
        await other.publish(inboxes[0], b"1")
        await other.flush()
        await nc.flush()
        assert [each.data for each in received] == [b"1"]


async def test_a_request_that_may_not_be_published_fails_at_once(network: Network) -> None:
    async with bounded(), network.connect_with(["fine"], ["_INBOX.>"]) as nc:
        with pytest.raises(natsery.PublishDeniedError, match=r"(?i)'not\.fine'"):
            await nc.request("Not.Fine")


async def test_a_refused_inbox_is_not_for_ever(network: Network) -> None:
    """After one denial every request failed for ever, with the same exception, whose traceback became longer and longer."""
    async with bounded(), network.connect_with([">"], ["asked"]) as nc, anyio.create_task_group() as tasks:
        asked: list[Message] = []

        async def answer(message: Message) -> None:
            await nc.publish(message.reply, b"here")

        def ask(message: Message) -> None:
            asked.append(message)
            tasks.start_soon(answer, message)

        await nc.add_subscription("asked", ask)
        errors: list[natsery.SubscriptionDeniedError] = []
        for _ in range(4):
            with pytest.raises(natsery.SubscriptionDeniedError, match=r"'_INBOX\.") as caught:
                await nc.request("asked")
            errors.append(caught.value)
        await nc.flush()
        assert len(asked) == 1  # what cannot be answered is sent once: the first time, when that is not known
        assert len({id(error) for error in errors}) == 4
        assert len({len(traceback.extract_tb(error.__traceback__)) for error in errors[1:]}) == 1
        network.permit(nc, [">"], [">"])
        for _ in range(3):
            assert (await nc.request("asked")).data == b"here"
        network.permit(nc, [">"], ["asked"])
        await nc.flush()
        with pytest.raises(natsery.SubscriptionDeniedError):
            await nc.request("asked")


async def test_every_request_that_waits_gets_an_error_of_its_own(network: Network) -> None:
    """All of them raised one and the same exception."""
    async with bounded(), network.connect_with(["fine"], ["_INBOX.>"]) as nc:
        errors: list[natsery.PublishDeniedError] = []
        nc.add_listener(lambda event: errors.append(event.error))  # type: ignore[arg-type]

        async def ask() -> None:
            with pytest.raises(natsery.PublishDeniedError) as caught:
                await nc.request("denied")
            errors.append(caught.value)

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(ask)
        assert len({id(error) for error in errors}) == len(errors) >= 4


async def test_a_stream_that_has_failed_raises_another_error_each_time(network: Network) -> None:
    """It raised one and the same exception, whose traceback became longer and longer."""
    async with bounded(), network.connect() as nc, nc.subscribe("a") as messages:
        await nc.aclose()
        errors: list[natsery.ConnectionClosedError] = []
        for _ in range(3):
            with pytest.raises(natsery.ConnectionClosedError) as caught:
                await messages.receive()
            errors.append(caught.value)
        assert len({id(error) for error in errors}) == 3
        assert len({len(traceback.extract_tb(error.__traceback__)) for error in errors}) == 1
        assert len({str(error) for error in errors}) == 1


async def test_reply_subjects_cannot_be_guessed(nc: Connection, transport: str) -> None:
    """They were counted, so that whoever had seen one could answer the next request."""
    if transport == "memory":
        pytest.skip("deterministic, for tests")
    replies: list[str] = []

    def take(message: Message) -> None:
        replies.append(message.reply)
        if len(replies) == 300:
            tasks.cancel_scope.cancel()

    await nc.add_subscription("asked", take)
    async with bounded(), anyio.create_task_group() as tasks:
        for _ in range(300):
            tasks.start_soon(nc.request, "asked")
    for subjects in (replies, [nc.new_inbox() for _ in range(300)]):
        tokens = [subject.replace("-", ".").rpartition(".")[2] for subject in subjects]
        assert len({subject.removesuffix(token) for subject, token in zip(subjects, tokens, strict=True)}) == 1
        assert {len(token) for token in tokens} == {16}
        numbers = [int(token, 16) for token in tokens]
        assert len({after - before for before, after in itertools.pairwise(numbers)}) == len(tokens) - 1


async def test_a_stream_is_for_one_task_at_a_time(nc: Connection) -> None:
    async with bounded(), nc.subscribe("a") as messages, anyio.create_task_group() as tasks:

        async def take() -> None:
            assert (await messages.receive()).data == b"1"

        tasks.start_soon(take)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(anyio.BusyResourceError):
            async for _ in messages:
                pass
        await nc.publish("a", b"1")


@pytest.mark.parametrize("elsewhere", ["trio", "asyncio"])
async def test_calls_from_another_event_loop_are_refused(nc: Connection, elsewhere: str) -> None:
    """A call from another loop left the connection's own loop asleep over it, and deaf from then on."""
    subscription = await nc.add_subscription("a", lambda message: None)

    async def subscribe() -> None:
        async with nc.subscribe("a"):
            pytest.fail("it has subscribed")

    async def close_stream() -> None:
        await messages.receive()

    async def add() -> None:
        await nc.add_subscription("a", lambda message: None)

    async def publish_until_full() -> None:
        for _ in range(100):
            await nc.publish("a")

    calls: list[Callable[[], Awaitable[object]]] = [
        publish_until_full,
        subscribe,
        close_stream,
        add,
        subscription.unsubscribe,
        lambda: nc.request("a"),
        nc.flush,
        nc.wait_closed,
        nc.aclose,
    ]

    async def call_all() -> None:
        for call in calls:
            with pytest.raises(RuntimeError, match="this NATS connection belongs to another event loop"):
                await call()
        with pytest.raises(natsery.BackendMismatchError, match="this NATS connection belongs to another event loop"):
            async with natsery.serve(nc, natsery.ServiceConfig("a", "1.0.0")):
                pytest.fail("it serves")

    async with bounded(), nc.subscribe("stream") as messages:
        await anyio.to_thread.run_sync(lambda: anyio.run(call_all, backend=elsewhere))
        await nc.publish("stream", b"1")
        assert (await messages.receive()).data == b"1"
        assert not nc.is_closed
