"""Whatever a peer sends to a nats-py client that is adapted or bridged: it is delivered or reported, and ends nothing."""

from __future__ import annotations

import asyncio

import nats
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nats.aio.client import Client
from nats.aio.subscription import Subscription

import natsery
from natsery import Message
from natsery._nats_py._incoming import Incoming, Intake
from natsery._nats_py._safe_client import SafeClient

from ..bounds import bounded
from ..calc_service import add, config
from ..conftest import open_connection
from ..server import NatsServer

pytestmark = pytest.mark.anyio


@pytest.fixture
def setting(request: pytest.FixtureRequest) -> object:
    return ("asyncio", {}), "adapted"


CALM = st.sampled_from([b"", b"x", b"x.1"])
BLOCKS = st.one_of(
    st.binary(max_size=40),
    st.builds(
        lambda status, rest: b"NATS/1.0" + status + b"\r\n" + rest, st.binary(max_size=8), st.binary(max_size=30)
    ),
    st.builds(lambda field: b"NATS/1.0\r\n" + field + b"\r\n\r\n", st.binary(max_size=30)),
)


@settings(max_examples=300)
@given(subject=CALM | st.binary(max_size=8), reply=CALM | st.binary(max_size=8), headers=BLOCKS, is_ours=st.booleans())
@example(subject=b"x", reply=b"", headers=b"NATS/1.0\r\nStatus: " + b"9" * 5000 + b"\r\n\r\n", is_ours=True)
@example(subject=b"x", reply=b"", headers=b"N", is_ours=True)
@example(subject=b"x", reply=b"", headers=b"NATS/1.0 \xff\xff\xff\r\n\r\n", is_ours=True)
@example(subject=b"x\xff", reply=b"", headers=b"", is_ours=True)
@example(subject=b"x\xff", reply=b"", headers=b"", is_ours=False)
@example(subject=b"x", reply=b"\xff", headers=b"NATS/1.0\r\n\r\n", is_ours=False)
def test_a_message_is_delivered_or_reported(subject: bytes, reply: bytes, headers: bytes, is_ours: bool) -> None:
    asyncio.run(take(subject, reply, headers, is_ours))


async def take(subject: bytes, reply: bytes, headers: bytes, is_ours: bool) -> None:
    client = Client()
    outcomes: list[object] = []

    async def on_error(error: Exception) -> None:
        outcomes.append(error)

    client._error_cb = on_error
    intake = Intake(outcomes.append, Message, SafeClient(client).writer) if is_ours else None
    queue: asyncio.Queue[object] = asyncio.Queue()
    client._subs[1] = Subscription(client, 1, "x", future=intake)
    client._subs[1]._pending_queue = queue
    detach = Incoming.attach(client)
    await client._process_msg(1, subject, reply, b"", headers)
    outcomes += [queue.get_nowait() for _ in range(queue.qsize())]
    assert outcomes
    if is_ours:
        (outcome,) = outcomes
        assert isinstance(outcome, Message | natsery.MalformedMessageError)
    detach()
    assert "_process_msg" not in vars(client)


async def test_what_receivers_raise_is_reported(nats_server: NatsServer) -> None:
    client = Client()
    heard: list[Exception] = []

    async def on_error(error: Exception) -> None:
        heard.append(error)

    def broken(message: Message) -> None:
        raise failure

    failure = ValueError("broken")
    client._error_cb = on_error
    client._subs[1] = Subscription(client, 1, "x", future=Intake(broken, Message, SafeClient(client).writer))
    Incoming.attach(client)
    await client._process_msg(1, b"x", b"", b"", b"")
    assert heard == [failure]


@pytest.mark.parametrize("slot", ["error_cb", "disconnected_cb", "reconnected_cb"])
async def test_a_callback_that_raises_ends_nothing(slot: str, caplog: pytest.LogCaptureFixture) -> None:
    """nats-py's reconnect task died of it, and the client was neither connected nor closed for ever."""

    is_broken = True

    async def broken(*args: object) -> None:
        if is_broken:
            raise ConnectionResetError

    with NatsServer() as server:
        options = {slot: broken, "reconnect_time_wait": 0.01, "max_reconnect_attempts": -1}
        async with bounded(), open_connection("adapted", server.url, **options) as nc:
            async with natsery.serve(nc, config(add)):
                with nc.events() as events:
                    server.kill()
                    server.restart()
                    async for event in events:
                        if event.kind is natsery.EventKind.RECONNECTED:
                            break
                assert (await nc.request("add", b"1+1")).data == b"2"
            is_broken = False
    assert "a callback of the nats-py client raised" in caplog.text


async def test_two_adapters_of_one_client_and_its_own_subscription(nats_server: NatsServer) -> None:
    client = await nats.connect(nats_server.url)
    async with bounded():
        own = await client.subscribe("x")
        async with natsery.adapt(client) as one:
            async with natsery.adapt(client) as two, two.subscribe("x") as second:
                await two.publish("x", headers={"A": ["1", "2"]})
                assert (await second.receive()).headers.get_all("a") == ["1", "2"]
            async with one.subscribe("x") as first:
                await one.publish("x", headers={"A": ["1", "2"]})
                assert (await first.receive()).headers.get_all("a") == ["1", "2"]
        await client.publish("x")
        assert [(await own.next_msg()).headers for _ in range(3)] == [{"A": "2"}, {"A": "2"}, None]
        assert "_process_msg" not in vars(client)
        await client.close()
