"""Answers to requests that no handler will see: they leave at once and in order, and those that cannot leave are counted."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

import natsery
from natsery._service import _refusals
from natsery.abc import Connection
from natsery.testing import MemoryBroker

from ..bounds import bounded
from ..calc_service import config, error_of
from ..virtual_time import IN_VIRTUAL_TIME
from .full_buffer import fill
from .own_connection import Own

pytestmark = pytest.mark.anyio


async def stuck(request: natsery.Request) -> None:
    await anyio.sleep_forever()


class Told(list[str]):
    """An error handler that notes what it is told."""

    def __call__(self, error: Exception, *_: object) -> None:
        self.append(str(error))


def no_answer(count: int) -> list[str]:
    return [f"{count} refused requests got no answer, because the connection did not take it"]


async def test_refusals_that_the_connection_does_not_take_are_counted_in_one_report(
    broker: MemoryBroker, nc: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some find no place to wait in, and the others fail one by one."""
    monkeypatch.setattr(_refusals, "MAX_WAITING_REFUSALS", 2)
    told = Told()

    async with bounded(), broker.connect() as server:
        async with natsery.serve(server, config(stuck, error_handler=told), grace=0) as service:
            for _ in range(4):
                await nc.publish("stuck", reply="replies")
            await nc.flush()
            broker.disconnect(server)
            await fill(server)
    assert told == no_answer(4)
    assert service.stats().endpoints[0].failures == {"stopping": 4}


@pytest.mark.parametrize(("limit", "value"), [("MAX_WAITING_REFUSALS", 2), ("MAX_WAITING_BYTES", 2 * len("r.0"))])
async def test_those_that_may_wait_are_bounded_in_number_and_in_bytes(
    broker: MemoryBroker, nc: Connection, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    monkeypatch.setattr(_refusals, limit, value)
    told = Told()
    async with bounded(), broker.connect() as server, nc.subscribe("r.*") as replies:
        async with natsery.serve(server, config(stuck, error_handler=told), grace=0):
            for number in range(5):
                await nc.publish("stuck", reply=f"r.{number}")
            await nc.flush()
            broker.disconnect(server)  # from here on they wait in its buffer, but for the first moment
        broker.reconnect(server)
        for _ in range(2):
            assert error_of(await replies.receive()) == "503:Service Stopping"
        await nc.flush()
        assert not replies._has_pending()
    assert told == no_answer(3)


async def test_one_that_is_larger_than_the_server_takes_is_counted() -> None:
    told = Told()
    async with bounded(), MemoryBroker(max_payload=40) as broker, broker.connect() as nc:
        async with natsery.serve(nc, config(stuck, error_handler=told), grace=0):
            await nc.publish("stuck", reply="replies")
            await nc.flush()
    assert told == no_answer(1)


async def test_they_leave_in_order(broker: MemoryBroker, nc: Connection) -> None:
    """One that has to wait, for the connection is away, is not overtaken by the next, for which it is back."""

    class Reconnects(natsery.Instrument):
        def request_refused(self, *_: object) -> None:
            broker.reconnect(server)

    async with bounded(), broker.connect() as server, nc.subscribe("r.*") as replies:
        async with natsery.serve(server, config(stuck, instruments=[Reconnects()]), grace=0):
            for number in range(5):
                await nc.publish("stuck", reply=f"r.{number}")
            await nc.flush()
            broker.disconnect(server)
        assert [(await replies.receive()).subject for _ in range(5)] == [f"r.{number}" for number in range(5)]


@IN_VIRTUAL_TIME
async def test_those_that_wait_at_the_end_are_counted(
    broker: MemoryBroker, nc: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those that found no place to wait in; the one that is being sent has perhaps been."""

    class Slow(Own):
        async def publish(self, *args: Any, **options: Any) -> None:
            await anyio.sleep_forever()

    monkeypatch.setattr(_refusals, "MAX_WAITING_REFUSALS", 3)
    told = Told()
    async with bounded(), broker.connect() as server:
        async with natsery.serve(Slow(server), config(stuck, error_handler=told), grace=0):
            for _ in range(5):
                await nc.publish("stuck", reply="replies")
            await nc.flush()
    assert told == no_answer(4)
