"""Code for one event loop in the other one: the error says how to have the service run on its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio

import natsery
from natsery.testing import MemoryBroker

from .bounds import bounded

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


WAITS: list[dict[str, Callable[[], Awaitable[object]]]] = [
    # The first asks its event loop for something, and the second only hands it something.
    {"asyncio": lambda: asyncio.sleep(1), "trio": lambda: trio.sleep(1)},
    {"asyncio": lambda: asyncio.sleep(0), "trio": lambda: trio.lowlevel.checkpoint()},
]


def note(running: str, other: str) -> str:
    return f"{running} is running; if this is for {other}, write ServiceConfig(backend={other!r})"


@pytest.fixture
def other(anyio_backend: str) -> str:
    return "trio" if anyio_backend == "asyncio" else "asyncio"


@pytest.mark.parametrize("waits", WAITS, ids=["asks", "hands over"])
async def test_a_handler_for_the_other_loop(
    anyio_backend: str, other: str, waits: dict[str, Callable[[], Awaitable[object]]], caplog: pytest.LogCaptureFixture
) -> None:
    """The log had 'no running event loop', from a service that answers in an event loop."""
    errors: list[Exception] = []

    async def handler(request: natsery.Request) -> bytes:
        await waits[other]()
        return b""

    config = natsery.ServiceConfig(
        "calc", "1.0.0", endpoints=[handler], error_handler=lambda error, *_: errors.append(error)
    )
    async with bounded(), MemoryBroker() as broker, broker.connect() as nc, natsery.serve(nc, config):
        await nc.request("handler")
    assert [error.__notes__ for error in errors] == [[note(anyio_backend, other)]]
    assert note(anyio_backend, other) in logging.Formatter().format(caplog.records[0])


@pytest.mark.parametrize("waits", WAITS, ids=["asks", "hands over"])
async def test_a_lifespan_for_the_other_loop(
    anyio_backend: str, other: str, waits: dict[str, Callable[[], Awaitable[object]]]
) -> None:
    """`natsery run` chooses trio, and a database's client may be for asyncio alone."""

    @asynccontextmanager
    async def lifespan(nc: natsery.abc.Connection) -> AsyncIterator[None]:
        await waits[other]()
        yield

    config = natsery.ServiceConfig("calc", "1.0.0", lifespan=lifespan)
    async with bounded(), MemoryBroker() as broker, broker.connect() as nc:
        with pytest.raises((RuntimeError, TypeError)) as caught:
            async with natsery.serve(nc, config):
                pass
    assert caught.value.__notes__ == [note(anyio_backend, other)]


OWN = {"trio": "must be called from async context", "asyncio": "no running event loop"}


@pytest.mark.parametrize("text", [None, "broken", [], "own"])
async def test_other_errors_are_left_as_they_are(anyio_backend: str, text: object) -> None:
    error = RuntimeError(OWN[anyio_backend] if text == "own" else text)

    @asynccontextmanager
    async def lifespan(nc: natsery.abc.Connection) -> AsyncIterator[None]:
        raise error
        yield

    async with bounded(), MemoryBroker() as broker, broker.connect() as nc:
        with pytest.raises(RuntimeError) as caught:
            async with natsery.serve(nc, natsery.ServiceConfig("calc", "1.0.0", lifespan=lifespan)):
                pass
    assert caught.value is error
    assert not hasattr(error, "__notes__")
