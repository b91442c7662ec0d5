"""What leaves a bridge: from the caller's thread where nothing is before it, through nats-py's where something is."""

from __future__ import annotations

from typing import cast

import anyio
import anyio.lowlevel
import nats
import pytest

import natsery
from natsery._nats_py import _outlet
from natsery._nats_py._outlet import Outlet
from natsery._nats_py._own_client import OwnClient
from natsery._nats_py._thread_queue import ThreadQueue
from natsery._nats_py._worker_thread import Outbound

from ..server import NatsServer
from ..test_serve import bounded

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["trio", "asyncio"])
def setting(request: pytest.FixtureRequest) -> object:
    return (request.param, {}), "bridged"


class Setting:
    """An outlet, and where what it sends went."""

    def __init__(self) -> None:
        self.here: list[list[bytes]] = []
        self.is_open = True
        self.wakes = 0
        self.lane: ThreadQueue[Outbound] = ThreadQueue(self._wake)
        self.outlet = Outlet(cast("OwnClient", self), self.lane)

    def _wake(self) -> None:
        self.wakes += 1

    def send_nowait(self, frames: list[bytes], payload_bytes: int) -> bool:
        """As the client does it."""
        if self.is_open:
            self.here.append(frames)
            self.payload_bytes = payload_bytes
        return self.is_open

    def there(self) -> list[Outbound]:
        """What the other thread finds when it looks, and begins to work on."""
        items = self.lane.gathered()
        found = list(items)
        items.clear()
        return found


async def act() -> None:
    """Does nothing; somewhere else."""


async def test_expected_answers_leave_with_the_last_of_them() -> None:
    it = Setting()
    it.outlet.expect_answers(3)
    it.outlet.answer(b"1", 10)
    it.outlet.answer(b"2", 20)
    assert it.here == []
    it.outlet.answer(b"3", 30)
    assert it.here == [[b"1", b"2", b"3"]]
    assert it.payload_bytes == 60
    assert (it.wakes, it.there()) == (0, [])


async def test_others_leave_when_all_who_can_run_have_had_their_turn() -> None:
    it = Setting()
    async with bounded(), anyio.create_task_group() as tasks:
        tasks.start_soon(it.outlet.run)
        await anyio.lowlevel.checkpoint()
        it.outlet.expect_answers(5)
        for _ in range(2):
            it.outlet.answer(b"1", 0)
            it.outlet.send(b"2", 0)
            assert it.here == []
            while not it.here:
                await anyio.lowlevel.checkpoint()
            assert it.here == [[b"1", b"2"]]
            it.here.clear()
        tasks.cancel_scope.cancel()


async def test_nothing_overtakes_what_is_on_its_way_through_the_other_thread() -> None:
    it = Setting()
    it.outlet.send(b"1", 0)
    it.outlet.put(act)
    assert it.here == [[b"1"]]
    it.outlet.expect_answers(1)
    it.outlet.answer(b"2", 7)
    assert it.there() == [act, b"2"]
    it.outlet.expect_answers(1)
    it.outlet.answer(b"3", 7)  # it is still at work
    assert it.there() == [b"3"]
    assert it.here == [[b"1"]]
    assert it.lane.put_bytes == 14
    it.lane.is_at_work = False
    it.outlet.expect_answers(1)
    it.outlet.answer(b"4", 7)
    assert it.here == [[b"1"], [b"4"]]
    assert it.lane.put_bytes == 14


async def test_what_is_to_be_done_there_follows_what_was_sent() -> None:
    it = Setting()
    it.is_open = False
    it.outlet.send(b"1", 0)
    it.outlet.put(act)
    assert it.there() == [b"1", act]


async def test_much_does_not_wait_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_outlet, "GATHERED_FRAMES", 3)
    monkeypatch.setattr(_outlet, "GATHERED_BYTES", 100)
    it = Setting()
    for _ in range(3):
        it.outlet.send(b"", 0)
    assert it.here == [[b""] * 3]
    it.outlet.send(b"x", 100)
    assert it.here == [[b""] * 3, [b"x"]]


async def test_the_client_is_not_overtaken_by_its_caller(nats_server: NatsServer) -> None:
    frames = [b"PUB x 0\r\n\r\n"]

    async def look(client: nats.aio.client.Client) -> None:
        assert isinstance(client, OwnClient)
        await client.flush()
        assert client.send_nowait(frames, 0)
        await client.publish("x")
        assert not client.send_nowait(frames, 0)  # nats-py has buffered it
        await client.flush()
        assert client.send_nowait(frames, 0)
        assert client.stats["out_msgs"] == 3
        assert client.stats["out_msgs"] == 3
        client._status = client.DRAINING_PUBS
        assert not client.send_nowait(frames, 0)
        client._status = client.CONNECTED

    async with bounded(), natsery.bridge(nats_server.url) as nc:
        await nc.call(look)
