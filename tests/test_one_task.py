"""Blocks that are entered in one task and left in another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import pytest

import natsery
from natsery.abc import Connection
from natsery.testing import MemoryBroker

from .bounds import bounded
from .calc_service import config
from .conftest import open_connection
from .server import NatsServer

Block = AbstractAsyncContextManager[Any]

REFUSED = r"the block of .* was entered in one task and is left in another"


async def leave_elsewhere(open_block: Callable[[], Block], is_over: Callable[[Any], bool]) -> None:
    """Enter a block in a task, try to leave it in another, and leave it where it was entered."""
    block = open_block()
    value: Any = None
    entered, tried = anyio.Event(), anyio.Event()

    async def hold() -> None:
        nonlocal value
        async with block as value:
            entered.set()
            # A service's block is cancelled by the attempt.
            with anyio.CancelScope(shield=True):
                await tried.wait()

    async with bounded(), anyio.create_task_group() as tasks:
        tasks.start_soon(hold)
        await entered.wait()
        with pytest.raises(RuntimeError, match=REFUSED):
            await block.__aexit__(None, None, None)
        tried.set()
    assert is_over(value)


@pytest.mark.anyio
async def test_a_connection_is_left_in_another_task(transport: str, nats_server: NatsServer) -> None:
    """anyio's internal error about cancel scopes came out, and on trio the whole program ended."""
    if transport == "adapted":
        pytest.skip("its client is opened outside of the block")
    options = {"native": natsery.connect, "bridged": natsery.bridge}[transport]
    await leave_elsewhere(lambda: options(nats_server.url), lambda nc: nc.is_closed)


@pytest.mark.anyio
async def test_a_service_is_left_in_another_task(nc: Connection) -> None:
    await leave_elsewhere(lambda: natsery.serve(nc, config()), lambda service: service._stopped.is_set())
    await nc.flush()


@pytest.mark.parametrize("transport", ["native", "adapted", "bridged"])
def test_the_task_that_has_entered_is_over(transport: str, nats_server: NatsServer) -> None:
    """So it is with fixtures of pytest-asyncio."""

    async def main() -> None:
        async with asyncio.timeout(10):
            block = open_connection(transport, nats_server.url)
            nc = await asyncio.create_task(block.__aenter__())  # type: ignore[arg-type]
            service = natsery.serve(nc, config())
            await asyncio.create_task(service.__aenter__())  # type: ignore[arg-type]
            await nc.flush()
            for each in (service, block):
                with pytest.raises(RuntimeError, match=REFUSED):
                    await asyncio.create_task(each.__aexit__(None, None, None))  # type: ignore[arg-type]
            assert not nc.is_connected
            broker = MemoryBroker()
            await asyncio.create_task(broker.__aenter__())
            with pytest.raises(RuntimeError, match=REFUSED):
                await asyncio.create_task(broker.__aexit__(None, None, None))

    asyncio.run(main())
