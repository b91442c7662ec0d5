"""The matrix: every backend, every transport that runs on it, and a real server for all."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import anyio
import nats
import pytest
import uvloop

import natsery
from natsery.abc import Connection

from .server import NatsServer


def _eager_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]  # Python 3.12 and newer
    return loop


_BACKENDS = [
    pytest.param(("trio", {}), id="trio"),
    pytest.param(("asyncio", {"debug": True}), id="asyncio"),
    pytest.param(("asyncio", {"loop_factory": uvloop.new_event_loop}), id="uvloop"),
]
if sys.version_info >= (3, 12):
    _BACKENDS.append(pytest.param(("asyncio", {"loop_factory": _eager_loop}), id="eager"))


@pytest.fixture(params=_BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


@pytest.fixture(scope="session")
def nats_server() -> Iterator[NatsServer]:
    with NatsServer() as server:
        yield server


@asynccontextmanager
async def open_connection(transport: str, url: str, **options: object) -> AsyncIterator[Connection]:
    """A connection of a kind; ``"adapted"`` needs asyncio."""
    if transport == "bridged":
        async with natsery.bridge(url, **options) as nc:
            yield nc
        return
    client = await nats.connect(url, **options)
    try:
        async with natsery.adapt(client) as nc:
            yield nc
    finally:
        # Protects the client from being left open by a cancelled test.
        with anyio.move_on_after(5, shield=True):
            await client.close()


@pytest.fixture(params=["adapted", "bridged"])
def transport(request: pytest.FixtureRequest, anyio_backend: tuple[str, object]) -> str:
    if request.param == "adapted" and anyio_backend[0] == "trio":
        pytest.skip("an adapted client needs asyncio")
    return request.param


@pytest.fixture
async def nc(transport: str, nats_server: NatsServer) -> AsyncIterator[Connection]:
    async with open_connection(transport, nats_server.url) as connection:
        yield connection
