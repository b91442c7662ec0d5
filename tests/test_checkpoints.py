"""The checkpoint rule: every public coroutine function is a checkpoint, but for senders and streams, which are one in time.

Senders and streams hear a cancellation at each call, and give other tasks their turn at the latest after 64 calls.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, TypeAlias

import anyio
import pytest
import trio.testing

import natsery
from natsery._backends import functions_of_loop, is_trio
from natsery.abc import Connection
from natsery.testing import MemoryBroker, make_request

from .bounds import bounded
from .calc_service import add, config
from .conftest import BACKENDS, MATRIX, open_connection
from .server import NatsServer

pytestmark = pytest.mark.anyio

MEMORY = [pytest.param((backend, "memory"), id=f"{name}-memory") for name, backend in BACKENDS.items()]

Call: TypeAlias = "Callable[[], Awaitable[object]]"
"""Calls a function once; may be called again."""


@pytest.fixture(params=[*MATRIX, *MEMORY])
def setting(request: pytest.FixtureRequest) -> object:
    return request.param


@pytest.fixture
async def nc(transport: str, nats_server: NatsServer) -> AsyncIterator[Connection]:
    async with AsyncExitStack() as stack:
        if transport == "memory":
            broker = await stack.enter_async_context(MemoryBroker())
            yield await stack.enter_async_context(broker.connect())
        else:
            yield await stack.enter_async_context(open_connection(transport, nats_server.url))


async def gives_a_turn(call: Call) -> bool:
    """Whether other tasks have had their turn when a call returns."""
    if is_trio():
        try:
            with trio.testing.assert_checkpoints():
                await call()
        except AssertionError:
            return False
        return True
    turns: list[None] = []
    asyncio.get_running_loop().call_soon(turns.append, None)
    await call()
    return bool(turns)


async def hears_cancellation(call: Call) -> bool:
    """Whether a call in a cancelled scope raises the cancellation."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        await call()
    return scope.cancelled_caught


def entering(manager: Callable[[], AbstractAsyncContextManager[object]]) -> Call:
    """Enter a context manager; leaving it is left out, because its end may wait by itself."""

    async def enter() -> None:
        async with manager():
            entered()

    def entered() -> None:
        """The block has begun."""

    return enter


# What each public coroutine function needs to be called. `Class.method` covers the subclasses that inherit it.


def connection_calls(nc: Connection) -> dict[str, Call]:
    async def unsubscribe() -> None:
        await subscription.unsubscribe()

    subscription: Any = None

    async def add_subscription() -> None:
        nonlocal subscription
        subscription = await nc.add_subscription("calls.added", lambda _: None)

    calls: dict[str, Call] = {
        "add_subscription": add_subscription,
        "Subscription.unsubscribe": unsubscribe,
        "flush": nc.flush,
        "request": lambda: nc.request("calls.echo"),
        "subscribe": entering(lambda: nc.subscribe("calls.subscribed")),
    }
    if isinstance(nc, natsery.NativeConnection):
        calls["rtt"] = nc.rtt
    if isinstance(nc, natsery.BridgedConnection):
        calls["call"] = lambda: nc.call(nothing)
    return calls


async def nothing(_: object) -> None:
    """Return at once."""


def closing_calls(nc: Connection) -> dict[str, Call]:
    calls: dict[str, Call] = {"aclose": nc.aclose, "wait_closed": nc.wait_closed}
    if isinstance(nc, natsery.NativeConnection):
        calls["drain"] = nc.drain
    return calls


def client_calls(nc: Connection) -> dict[str, Call]:
    client = natsery.ServiceClient(nc)
    return {
        "ServiceClient.request": lambda: client.request("calls.echo"),
        "ServiceClient.ping": lambda: client.ping(count=1),
        "ServiceClient.info": lambda: client.info(count=1),
        "ServiceClient.stats": lambda: client.stats(count=1),
        "ServiceClient.schema": lambda: client.schema("calc"),
        "ServiceClient.request_many": entering(lambda: client.request_many("calls.echo")),
        "ServiceClient.discover": entering(lambda: client.discover("PING")),
        "ServiceClient.call": lambda: client.call("calc", "echo"),
        "ServiceClient.find_endpoint": lambda: client.find_endpoint("calc", "echo"),
        "ServiceClient.stream": entering(lambda: client.stream("calls.echo")),
    }


def service_calls(nc: Connection, service: natsery.Service) -> dict[str, Call]:
    group = service.add_group("grouped")
    endpoint: Any = None

    async def add_endpoint() -> None:
        nonlocal endpoint
        endpoint = await service.add_endpoint(natsery.EndpointConfig("late", add))

    async def remove() -> None:
        await endpoint.remove()

    async def serve_and_stop() -> None:
        class Stop:
            def started(self, value: natsery.Service) -> None:
                value.stop()

        await natsery.serve_forever(nc, config(), task_status=Stop())  # type: ignore[arg-type]  # enough of one

    return {
        "Service.add_endpoint": add_endpoint,
        "Endpoint.remove": remove,
        "Group.add_endpoint": lambda: group.add_endpoint(add),
        "serve": entering(lambda: natsery.serve(nc, config())),
        "serve_forever": serve_and_stop,
    }


CLOSED_LATER = {"aclose", "wait_closed", "drain"}
SENDERS = {"publish", "Request.respond", "Request.respond_json", "Request.respond_error"}
STREAMS = {"Messages.receive", "Events.receive", "ReplyStream.receive"}
ELSEWHERE = {
    "Messages.aclose": "test_streams_are_checkpoints",
    "Events.aclose": "test_streams_are_checkpoints",
    "ReplyStream.aclose": "test_streams_are_checkpoints",
    "Service.wait_stopped": "test_waiting_for_what_has_been_is_a_checkpoint",
    "connect": "test_opening_a_connection_is_a_checkpoint",
    "bridge": "test_opening_a_connection_is_a_checkpoint",
    "adapt": "test_opening_a_connection_is_a_checkpoint",
    "MemoryBroker.connect": "test_opening_a_connection_is_a_checkpoint",
}
"""Where the others are tested."""


def public_coroutine_functions() -> set[str]:
    """Those of connections by their method's name alone, for every transport has them."""
    found: set[str] = set()
    for module in (natsery, natsery.abc):
        for name in module.__all__:
            value = getattr(module, name)
            if is_async(value):
                found.add(name)
            elif inspect.isclass(value) and not is_protocol(value):
                methods = {each for each in dir(value) if not each.startswith("_") and is_async(getattr(value, each))}
                found |= methods if issubclass(value, Connection) else {f"{name}.{each}" for each in methods}
    return found


def is_protocol(value: type) -> bool:
    """Whether it only says what a program of the user's has."""
    return getattr(value, "_is_protocol", False)


def is_async(value: object) -> bool:
    return inspect.iscoroutinefunction(value) or (
        inspect.isfunction(value) and inspect.isasyncgenfunction(inspect.unwrap(value))
    )


@pytest.mark.parametrize("transport", ["memory"])
@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_every_public_coroutine_function_is_tested_here(anyio_backend: object, transport: str) -> None:
    async with MemoryBroker() as broker, broker.connect() as nc, natsery.serve(nc, config()) as service:
        tested = {*connection_calls(nc), *client_calls(nc), *service_calls(nc, service)}
    tested |= {*CLOSED_LATER, *SENDERS, *STREAMS, *ELSEWHERE, "rtt", "call", "Subscription.unsubscribe"}
    assert public_coroutine_functions() - tested == set()
    assert all(test in globals() for test in ELSEWHERE.values())


async def echo(request: natsery.Request) -> bytes:
    return request.data


async def test_everything_else_is_a_checkpoint(nc: Connection) -> None:
    async with bounded(), natsery.serve(nc, config(natsery.group("calls", [echo]), schemas=True)) as service:
        calls = {**connection_calls(nc), **client_calls(nc), **service_calls(nc, service)}
        turns = {name: await gives_a_turn(call) for name, call in calls.items()}
        assert [name for name, has_given in turns.items() if not has_given] == []
        cancellations = {name: await hears_cancellation(call) for name, call in calls.items()}
        assert [name for name, has_heard in cancellations.items() if not has_heard] == []


async def test_closing_is_a_checkpoint_also_when_it_is_closed(nc: Connection) -> None:
    async with bounded():
        await nc.aclose()
        for name, call in closing_calls(nc).items():
            assert await gives_a_turn(call), name
            assert await hears_cancellation(call), name


async def test_a_cancelled_aclose_closes(nc: Connection) -> None:
    async with bounded():
        assert await hears_cancellation(nc.aclose)
        assert nc.is_closed


async def test_a_cancelled_unsubscribe_unsubscribes(nc: Connection) -> None:
    received: list[natsery.Message] = []
    async with bounded():
        subscription = await nc.add_subscription("ended", received.append)
        assert await hears_cancellation(subscription.unsubscribe)
        await nc.flush()
        await nc.publish("ended")
        await nc.flush()
        assert received == []


async def test_waiting_for_what_has_been_is_a_checkpoint(nc: Connection) -> None:
    async with bounded():
        async with natsery.serve(nc, config()) as service:
            pass
        assert await gives_a_turn(service.wait_stopped)
        assert await hears_cancellation(service.wait_stopped)


async def test_senders_hear_cancellation_at_each_call_and_give_a_turn_in_time(nc: Connection) -> None:
    request, answers = make_request()
    senders: dict[str, Call] = {
        "publish": lambda: nc.publish("sent", b"x"),
        "Request.respond": lambda: request.respond(b"x"),
        "Request.respond_json": lambda: request.respond_json(1),
        "Request.respond_error": lambda: request.respond_error(400, "no"),
    }
    async with bounded():
        assert senders.keys() == SENDERS
        for name, send in senders.items():
            before = len(answers)
            assert await hears_cancellation(send), name
            assert len(answers) == before
            assert await gives_a_turn(repeated(send, 66)), name
        assert await gives_a_turn(repeated(lambda: nc.publish("sent", bytes(40_000)), 3))
        assert await gives_a_turn(repeated(lambda: request.respond(bytes(40_000)), 3))


async def test_streams_hear_cancellation_at_each_item_and_give_a_turn_in_time(nc: Connection) -> None:
    async with bounded(), nc.subscribe("streamed") as messages:
        for _ in range(200):
            await nc.publish("streamed")
        await nc.flush()
        with nc.events() as events:
            for _ in range(200):
                events._put(natsery.ConnectionEvent(natsery.EventKind.ERROR))
            async with natsery.ServiceClient(nc).request_many("calls.many") as replies:
                for _ in range(200):
                    replies._deliver(natsery.Message("reply"))
                streams: dict[str, Call] = {
                    "Messages.receive": messages.receive,
                    "Events.receive": events.receive,
                    "ReplyStream.receive": replies.receive,
                }
                assert streams.keys() == STREAMS
                for name, receive in streams.items():
                    assert await hears_cancellation(receive), name
                    assert await gives_a_turn(repeated(receive, 66)), name


async def test_streams_are_checkpoints(nc: Connection) -> None:
    async with bounded(), nc.subscribe("streamed") as messages:
        with nc.events() as events:
            async with natsery.ServiceClient(nc).request_many("calls.many") as replies:
                for stream in (messages, events, replies):
                    assert await gives_a_turn(stream.aclose)
                    assert await hears_cancellation(stream.aclose)
                    with pytest.raises(anyio.ClosedResourceError):
                        await stream.receive()


async def test_opening_a_connection_is_a_checkpoint(nc: Connection, transport: str, nats_server: NatsServer) -> None:
    async with bounded(), MemoryBroker() as broker:
        call = (
            entering(broker.connect)
            if transport == "memory"
            else entering(lambda: open_connection(transport, nats_server.url))
        )
        assert await gives_a_turn(call)
        assert await hears_cancellation(call)


def repeated(call: Call, times: int) -> Call:
    async def calls() -> None:
        for _ in range(times):
            await call()

    return calls


async def test_asyncio_s_look_for_a_cancellation_is_the_quick_one(nc: Connection) -> None:
    """What it knows of anyio is still so; and it keeps to shields, as anyio's does."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        with anyio.CancelScope(shield=True):
            await nc.publish("noise")
        with pytest.raises(anyio.get_cancelled_exc_class()):
            await nc.publish("noise")
    if not is_trio():
        assert functions_of_loop()[1].__module__ == "natsery._backends._asyncio"
