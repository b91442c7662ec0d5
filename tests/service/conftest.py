"""Services in memory, on every backend and without the passing of time: for what needs no wire."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from natsery.abc import Connection
from natsery.testing import MemoryBroker

from ..conftest import BACKENDS
from ..virtual_time import VIRTUAL_BACKENDS


@pytest.fixture(params=[*BACKENDS])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    make = VIRTUAL_BACKENDS.get(request.param)
    return BACKENDS[request.param] if make is None else make()


@pytest.fixture
async def broker() -> AsyncIterator[MemoryBroker]:
    async with MemoryBroker() as broker:
        yield broker


@pytest.fixture
async def nc(broker: MemoryBroker) -> AsyncIterator[Connection]:
    async with broker.connect() as nc:
        yield nc
