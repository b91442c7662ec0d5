"""The pytest plugin: fixtures for services in memory and on a real server, under pytest-trio and under anyio's plugin.

pytest imports it in every environment that has natsery, so it imports natsery only when a fixture is used.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from _pytest.fixtures import FixtureDef, SubRequest

    from natsery import NativeConnection
    from natsery.testing import MemoryBroker, NatsServer

_REPLACEMENTS = {
    "memory_broker": "async with MemoryBroker() as broker",
    "nats_connection": "async with natsery.connect(nats_server.url) as nc",
}
"""What to write in a test instead of each async fixture."""


@pytest.fixture
async def memory_broker() -> AsyncIterator[MemoryBroker]:
    """A `natsery.testing.MemoryBroker` that has been entered; for async tests."""
    from natsery.testing import MemoryBroker

    async with MemoryBroker() as broker:
        yield broker


@pytest.fixture(scope="session")
def _natsery_server() -> Iterator[NatsServer]:
    from natsery.testing import NatsServer

    with NatsServer() as server:
        yield server


@pytest.fixture
def nats_server(_natsery_server: NatsServer) -> Iterator[NatsServer]:
    """A real nats-server, shared by the whole session; restored after a test that kills, freezes or configures it."""
    yield _natsery_server
    _natsery_server.recover()


@pytest.fixture
async def nats_connection(nats_server: NatsServer) -> AsyncIterator[NativeConnection]:
    """A connection of `natsery.connect` to ``nats_server``; for async tests."""
    import natsery

    async with natsery.connect(nats_server.url) as nc:
        yield nc


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup(fixturedef: FixtureDef[Any], request: SubRequest) -> None:
    """Fail with a hint where one of the async fixtures cannot work."""
    replacement = _REPLACEMENTS.get(fixturedef.argname)
    if replacement is None or fixturedef.func.__module__ != __name__:
        return
    if request.node.get_closest_marker("trio") is not None or "anyio_backend" in request.fixturenames:
        return
    try:
        _fail(fixturedef.argname, replacement, request)
    except pytest.fail.Exception as failure:
        # As pytest does. Without it, the next test that asks for the fixture fails with a bare AssertionError.
        fixturedef.cached_result = (None, fixturedef.cache_key(request), (failure, failure.__traceback__))
        raise


def _fail(name: str, replacement: str, request: SubRequest) -> NoReturn:
    function = getattr(request.node, "function", None)
    if function is not None and not inspect.iscoroutinefunction(function):
        pytest.fail(f"the fixture {name!r} is for async tests: make this one 'async def', and mark it", pytrace=False)
    pytest.fail(
        f"the fixture {name!r} works under pytest-trio and under anyio's plugin: mark the test with @pytest.mark.trio "
        f"(pip install pytest-trio) or @pytest.mark.anyio; under another plugin write '{replacement}' in the test",
        pytrace=False,
    )
