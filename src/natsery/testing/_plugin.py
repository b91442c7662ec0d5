"""The pytest plugin: fixtures for services in memory and on a real server, under pytest-trio and under anyio's plugin."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from .._native._connect import connect
from .._native._native_connection import NativeConnection
from ._memory_broker import MemoryBroker
from ._nats_server import NatsServer

if TYPE_CHECKING:
    from _pytest.fixtures import FixtureDef, SubRequest

_HOW = {
    "memory_broker": "async with MemoryBroker() as broker",
    "nats_connection": "async with natsery.connect(nats_server.url) as nc",
}


@pytest.fixture
async def memory_broker() -> AsyncIterator[MemoryBroker]:
    """A broker in memory, entered; for async tests."""
    async with MemoryBroker() as broker:
        yield broker


@pytest.fixture(scope="session")
def _natsery_server() -> Iterator[NatsServer]:
    with NatsServer() as server:
        yield server


@pytest.fixture
def nats_server(_natsery_server: NatsServer) -> Iterator[NatsServer]:
    """A real nats-server, the same for the whole session. A test may kill, freeze or configure it; the next finds it well."""
    yield _natsery_server
    _natsery_server.recover()


@pytest.fixture
async def nats_connection(nats_server: NatsServer) -> AsyncIterator[NativeConnection]:
    """A connection of ``natsery.connect`` to ``nats_server``; for async tests."""
    async with connect(nats_server.url) as nc:
        yield nc


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef: FixtureDef[Any], request: SubRequest) -> None:
    """Say what to write instead where one of the async fixtures cannot work."""
    how = _HOW.get(fixturedef.argname)
    if how is None or fixturedef.func.__module__ != __name__:
        return
    if request.node.get_closest_marker("trio") is not None or "anyio_backend" in request.fixturenames:
        return
    name = fixturedef.argname
    function = getattr(request.node, "function", None)
    if function is not None and not inspect.iscoroutinefunction(function):
        pytest.fail(f"the fixture {name!r} is for async tests: make this one 'async def', and mark it", pytrace=False)
    pytest.fail(
        f"the fixture {name!r} works under pytest-trio and under anyio's plugin: mark the test with @pytest.mark.trio "
        f"(pip install pytest-trio) or @pytest.mark.anyio; under another plugin write '{how}' in the test",
        pytrace=False,
    )
