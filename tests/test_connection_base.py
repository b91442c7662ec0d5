"""What all connections have in common, where callbacks and listeners misbehave or come late."""

from __future__ import annotations

import anyio
import pytest

import natsery
from natsery import EventKind, NatseryError
from natsery._streams import MAX_EVENTS
from natsery.testing import MemoryBroker

from .bounds import bounded

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


async def test_listeners_that_raise_and_those_that_go_twice_harm_nobody(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[EventKind] = []

    def broken(event: natsery.ConnectionEvent) -> None:
        raise LookupError

    async with bounded(), MemoryBroker() as broker, broker.connect() as nc:
        remove = nc.add_listener(broken)
        nc.add_listener(lambda event: heard.append(event.kind))
        broker.disconnect(nc)
        remove()
        remove()
        broker.reconnect(nc)
        assert heard == [EventKind.DISCONNECTED, EventKind.RECONNECTED]
    (record,) = [each for each in caplog.records if each.exc_info]
    assert record.getMessage() == "a listener of the NATS connection raised"


async def test_what_hears_of_an_error_and_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def broken(error: NatseryError) -> None:
        raise LookupError

    async with bounded(), MemoryBroker() as broker, broker.connect() as nc, broker.connect() as other:
        broker.permit(nc, subscribe=["good"])
        received: list[bytes] = []
        await nc.add_subscription("bad", print, on_error=broken)
        await nc.add_subscription("good", lambda message: received.append(message.data))
        await other.publish("good", b"x")
        await other.flush()
        await nc.flush()
        assert received == [b"x"]
    (record,) = [each for each in caplog.records if each.exc_info]
    assert record.getMessage().startswith("telling of SubscriptionDeniedError(")


async def test_a_denied_message_fails_no_request_to_another_subject() -> None:
    async with bounded(), MemoryBroker() as broker, broker.connect() as nc, broker.connect() as other:
        broker.permit(nc, publish=["asked"])
        async with other.subscribe("asked") as asked, anyio.create_task_group() as tasks:
            replies: list[bytes] = []

            async def ask() -> None:
                replies.append((await nc.request("asked")).data)

            tasks.start_soon(ask)
            request = await asked.receive()
            await nc.publish("denied")
            await nc.flush()
            await other.publish(request.reply, b"answer")
        assert replies == [b"answer"]


async def test_events_beyond_the_limit_are_counted_and_the_last_one_is_kept() -> None:
    async with bounded(), MemoryBroker() as broker, broker.connect() as nc:
        with nc.events() as events:
            for _ in range(MAX_EVENTS // 2 + 5):
                broker.disconnect(nc)
                broker.reconnect(nc)
            await nc.aclose()
            kinds = [event.kind async for event in events]
        assert len(kinds) == MAX_EVENTS + 1
        assert events.dropped == 11  # the first one said that it is connected
        assert (kinds[0], kinds[-1]) == (EventKind.CONNECTED, EventKind.CLOSED)


async def test_a_stream_of_events_that_is_closed_takes_no_more() -> None:
    async with bounded(), MemoryBroker() as broker, broker.connect() as nc:
        with nc.events() as events:
            await events.aclose()
            broker.disconnect(nc)
            with pytest.raises(anyio.ClosedResourceError):
                await events.receive()


async def test_a_request_that_is_answered_while_it_is_being_sent_is_a_cancellation_point(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with bounded(), MemoryBroker() as broker, broker.connect() as nc, broker.connect() as other:
        send = nc._send

        async def send_slowly(*args: object, **options: object) -> None:
            await send(*args, **options)
            await anyio.wait_all_tasks_blocked()
            scope.cancel()

        async def answer(message: natsery.Message) -> None:
            await other.publish(message.reply, b"answer")

        async def answer_all(*, task_status: anyio.abc.TaskStatus[None]) -> None:
            async with other.subscribe("asked") as messages:
                task_status.started()
                async for message in messages:
                    await answer(message)

        async with anyio.create_task_group() as tasks:
            await tasks.start(answer_all)
            assert (await nc.request("asked")).data == b"answer"
            monkeypatch.setattr(nc, "_send", send_slowly)
            with anyio.CancelScope() as scope:
                await nc.request("asked")
                pytest.fail("it went on")
            assert scope.cancelled_caught
            tasks.cancel_scope.cancel()
