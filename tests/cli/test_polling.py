"""Rounds of questions, in memory and in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import pytest
import trio

import natsery
from natsery import Message
from natsery._cli._top._polling import MISSING_SECONDS, Poller, ServerStatus
from natsery._cli._top._rates import Meter
from natsery.testing import MemoryBroker, MemoryConnection

from ..virtual_time import in_virtual_time
from .figures import endpoint, stats


@dataclass
class World:
    """Instances that answer so many seconds after they are asked, or not at all; and who asks them."""

    broker: MemoryBroker
    nc: MemoryConnection
    poller: Poller
    meter: Meter
    delays: dict[str, float | None] = field(default_factory=dict)
    asked: list[float] = field(default_factory=list)
    also: list[bytes] = field(default_factory=list)

    def stale(self) -> list[str]:
        return [each.id for service in self.meter.figures() for each in service.instances if each.is_stale]

    def there(self) -> list[str]:
        return [each.id for service in self.meter.figures() for each in service.instances]

    async def ask(self, seconds: float) -> float:
        """How long a round took."""
        begun = trio.current_time()
        assert await self.poller.poll(seconds)
        return trio.current_time() - begun


@asynccontextmanager
async def world(**delays: float | None) -> AsyncIterator[World]:
    async with MemoryBroker() as broker, broker.connect() as nc, broker.connect() as other:
        meter = Meter()
        this = World(
            broker, nc, Poller(nc, ServerStatus(nc, lambda: None), meter, name=None, prefix="$SRV"), meter, dict(delays)
        )
        async with anyio.create_task_group() as tasks:

            async def answer(reply: str, name: str, delay: float, requests: int) -> None:
                await anyio.sleep(delay)
                await other.publish(reply, stats(endpoint(requests), instance=name).to_json())

            def deliver(message: Message) -> None:
                this.asked.append(trio.current_time())
                for name, delay in this.delays.items():
                    if delay is not None:
                        tasks.start_soon(answer, message.reply, name, delay, len(this.asked))
                for each in this.also:
                    tasks.start_soon(other.publish, message.reply, each)

            await other.add_subscription("$SRV.STATS", deliver)
            yield this
            tasks.cancel_scope.cancel()


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run in virtual time, an hour of it at most."""

    async def main() -> None:
        with anyio.fail_after(3600):
            await test()

    in_virtual_time(main)


def test_a_round_takes_its_time_and_finds_who_answers_in_it() -> None:
    async def main() -> None:
        async with world(one=0, two=0.4, three=0.6) as this:
            assert await this.ask(0.5) == 0.5
            assert this.there() == ["one", "two"]

    run(main)


def test_a_round_waits_for_those_who_answered_in_the_last_but_not_for_long() -> None:
    async def main() -> None:
        async with world(one=0, two=0.3) as this:
            await this.ask(0.5)
            assert await this.ask(0.1) == pytest.approx(0.3)
            this.delays["two"] = MISSING_SECONDS + 1
            assert await this.ask(0.1) == pytest.approx(MISSING_SECONDS)
            assert this.stale() == ["two"]
            assert await this.ask(0.1) == pytest.approx(0.1), "who has missed a round is not waited for"
            this.delays["two"] = 0.05
            await this.ask(0.1)
            assert this.stale() == []

    run(main)


def test_an_instance_has_not_missed_a_round_in_which_replies_could_not_be_read() -> None:
    """With thousands of services, drawing them took the time of the round, and those that had answered were stale."""

    async def main() -> None:
        async with world(one=0, two=MISSING_SECONDS + 3) as this:
            await this.ask(MISSING_SECONDS + 4)

            async def draw() -> None:
                await anyio.sleep(0.5)
                this.poller.excuse(3)
                await anyio.sleep(3.1)
                this.poller.excuse(0.2)

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(draw)
                assert await this.ask(0.1) == pytest.approx(MISSING_SECONDS + 3)
            assert this.stale() == []
            this.delays = {"one": 0, "two": 0.05}
            assert await this.ask(0.1) == pytest.approx(0.1), "each round begins with nothing excused"

    run(main)


def test_of_two_hundred_instances_the_slow_ones_hold_up_nobody() -> None:
    async def main() -> None:
        delays = {f"i{number:03}": number % 10 / 1000 for number in range(190)}
        slow = {f"s{number}": 0.9 for number in range(8)}
        async with world(**delays, **slow, dead=0.5, deaf=1.5) as this:
            shown: list[float] = []
            assert await this.poller.poll(1.0, lambda: shown.append(trio.current_time()))
            assert len(this.there()) == 199, "all but the one that takes longer than a round"
            assert sum(each <= 0.01 for each in shown) == 190, "the quick ones can be shown at once"
            this.delays["dead"] = None
            begun = trio.current_time()
            for _ in range(3):
                await this.ask(1.0)
            assert [each - begun for each in this.asked[-3:]] == [0, 1, 2]
            assert this.stale() == ["dead"]
            assert all(
                each.rates is not None and each.rates.requests == pytest.approx(1)
                for each in this.meter.figures()[0].instances
                if each.id != "dead"
            )

    run(main)


def test_a_round_without_anybody_takes_its_time_too() -> None:
    async def main() -> None:
        async with MemoryBroker() as broker, broker.connect() as nc:
            meter = Meter()
            begun = trio.current_time()
            assert await Poller(nc, ServerStatus(nc, lambda: None), meter, name="calc", prefix="$SRV").poll(0.5)
            assert trio.current_time() - begun == 0.5
            assert meter.figures() == ()

    run(main)


def test_what_cannot_be_read_is_counted_and_spoils_nothing() -> None:
    async def main() -> None:
        async with world(one=0) as this:
            this.also = [b"what?", b"{}"]
            await this.ask(0.5)
            assert this.poller.malformed == 2
            assert this.there() == ["one"]
            this.also = []
            await this.ask(0.5)
            assert this.poller.malformed == 0

    run(main)


def test_no_instance_misses_a_round_in_which_the_server_went_away() -> None:
    async def main() -> None:
        async with world(one=0, two=0.3) as this:
            changes: list[str] = []
            with ServerStatus.watch(this.nc, lambda: changes.append("!")) as link:
                await this.ask(0.5)
                async with anyio.create_task_group() as tasks:

                    async def fail() -> None:
                        await anyio.sleep(0.1)
                        this.broker.disconnect(this.nc)

                    tasks.start_soon(fail)
                    begun = trio.current_time()
                    assert not await this.poller.poll(0.5)
                    assert trio.current_time() - begun == pytest.approx(0.1), "it does not wait for what cannot come"
                assert link.is_disconnected
                assert link.message == (
                    "Disconnected from the server, these are the last figures: the broker ended the connection"
                )
                assert changes == ["!"]
                with anyio.move_on_after(5):
                    await link.wait_connected()
                    pytest.fail("it is not back")
                this.broker.reconnect(this.nc)
                await link.wait_connected()
                assert not link.is_disconnected
                assert link.message == ""
                assert this.stale() == []
                await this.ask(0.5)
                assert this.stale() == []
                (service,) = this.meter.figures()
                assert [each.num_requests for each in service.instances] == [3, 3]

    run(main)


def test_whoever_waits_for_the_server_hears_that_the_connection_is_closed() -> None:
    async def main() -> None:
        async with world(one=0) as this:
            with ServerStatus.watch(this.nc, lambda: None) as link:
                this.broker.disconnect(this.nc)
                await this.nc.aclose()
                await link.wait_connected()
                with pytest.raises(natsery.ConnectionClosedError):
                    await this.poller.poll(0.5)

    run(main)


def test_whoever_may_not_ask_is_told() -> None:
    async def main() -> None:
        async with MemoryBroker() as broker, broker.connect(publish=["a"]) as nc:
            with pytest.raises(natsery.PublishDeniedError):
                await Poller(nc, ServerStatus(nc, lambda: None), Meter(), name=None, prefix="$SRV").poll(0.5)

    run(main)


@pytest.mark.parametrize("at", [0.0, 0.2, 0.45])
def test_cancelled_anywhere_it_leaves_nothing_behind(at: float) -> None:
    async def main() -> None:
        async with world(one=0, two=0.4) as this:
            with anyio.move_on_after(at):
                await this.poller.poll(0.5)
                pytest.fail("it was not cancelled")
            await this.nc.flush()
            assert list(this.nc._active()) == []
            assert not this.nc._listeners

    run(main)
