"""Every backend, for tests of the native connection alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from ..conftest import BACKENDS
from ..operator_mode import Operator
from ..server import NatsServer
from .tools import open_sockets, running_tasks, settled


@pytest.fixture(params=[pytest.param(backend, id=name) for name, backend in BACKENDS.items()])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


@pytest.fixture
async def nothing_left(anyio_backend: object) -> AsyncIterator[None]:
    """Fails the test that leaves a task or a socket behind."""
    await settled()
    tasks, sockets = running_tasks(), open_sockets()
    yield
    await settled()
    assert running_tasks() <= tasks
    assert open_sockets() == sockets


@pytest.fixture(scope="package")
def operator() -> Operator:
    return Operator()


@pytest.fixture(scope="package")
def operator_server(operator: Operator) -> Iterator[NatsServer]:
    with NatsServer(operator.server_config()) as server:
        yield server
