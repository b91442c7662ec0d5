"""How long a service waits for others, to the moment: for handlers, servers, and the functions in its configuration."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import anyio
import pytest

import natsery
from natsery._fast_path import FastSubscription, Interest
from natsery.abc import Connection
from natsery.testing import MemoryBroker
from natsery.testing._memory_connection import MemorySubscription

from ..bounds import bounded
from ..calc_service import add, config, error_of
from ..virtual_time import IN_VIRTUAL_TIME

pytestmark = [pytest.mark.anyio, IN_VIRTUAL_TIME]

Arrivals = list[tuple[float, str | None]]


async def ask(nc: Connection, subject: str, arrivals: Arrivals) -> None:
    """Note how long a reply took, and the error that it is."""
    begun = anyio.current_time()
    reply = await nc.request(subject)
    arrivals.append((pytest.approx(anyio.current_time() - begun), error_of(reply)))


async def stuck(request: natsery.Request) -> None:
    await anyio.sleep_forever()


@pytest.mark.parametrize("timeout", [0.05, 3600])
async def test_a_deadline_that_passes_is_answered_with_504(nc: Connection, timeout: float) -> None:
    arrivals: Arrivals = []

    @natsery.endpoint(timeout=timeout)
    async def slow(request: natsery.Request) -> None:
        await anyio.sleep_forever()

    async with bounded(10_000), natsery.serve(nc, config(slow)) as service:
        await ask(nc, "slow", arrivals)
        await ask(nc, "slow", arrivals)
    assert arrivals == [(timeout, "504:Deadline Exceeded")] * 2
    assert service.stats().endpoints[0].failures == {"timeout": 2}


@pytest.mark.parametrize("grace", [0, 0.3, 30])
async def test_a_handler_that_never_returns_is_cut_off_at_the_grace(nc: Connection, grace: float) -> None:
    arrivals: Arrivals = []
    started = anyio.Event()

    @natsery.endpoint(concurrency=2)
    async def never(request: natsery.Request) -> None:
        started.set()
        await anyio.sleep_forever()

    async with bounded(), anyio.create_task_group() as tasks:
        async with natsery.serve(nc, config(never), grace=grace) as service:
            for _ in range(3):
                tasks.start_soon(ask, nc, "never", arrivals)
            await started.wait()
            left = anyio.current_time()
        assert anyio.current_time() - left == pytest.approx(grace)
    assert arrivals == [(grace, "503:Service Stopping")] * 3
    assert service.stats().endpoints[0].failures == {"stopping": 3}


async def test_a_request_that_ends_within_the_grace_is_waited_for_and_no_longer(nc: Connection) -> None:
    arrivals: Arrivals = []

    started = anyio.Event()

    async def slow(request: natsery.Request) -> bytes:
        started.set()
        await anyio.sleep(7)
        return b""

    async with bounded(), anyio.create_task_group() as tasks:
        async with natsery.serve(nc, config(slow), grace=30):
            tasks.start_soon(ask, nc, "slow", arrivals)
            await started.wait()
            left = anyio.current_time()
        assert anyio.current_time() - left == pytest.approx(7)
    assert arrivals == [(7, None)]


@pytest.mark.parametrize(("grace", "seconds"), [(0, 1), (10, 10)])
async def test_a_server_that_says_nothing_holds_the_scope_for_a_second(
    broker: MemoryBroker, nc: Connection, grace: float, seconds: float
) -> None:
    """Beside the grace, which requests get that were accepted before."""
    async with bounded():
        async with natsery.serve(nc, config(stuck), grace=grace):
            await nc.publish("stuck")
            await nc.flush()
            broker.delay = 3600
            left = anyio.current_time()
        assert anyio.current_time() - left == pytest.approx(seconds)


async def test_a_stop_under_way_that_is_hurried_takes_the_shorter_grace_from_then_on(nc: Connection) -> None:
    async with bounded():
        async with natsery.serve(nc, config(stuck), grace=30) as service:
            await nc.publish("stuck")
            await nc.flush()
            service.stop()
            stopped = anyio.current_time()
            with anyio.CancelScope(shield=True):
                await anyio.sleep(3)
            service.stop(grace=5)
            service.stop(grace=20)
        assert anyio.current_time() - stopped == pytest.approx(3 + 5)


async def test_a_client_that_is_drained_and_does_not_close_holds_the_scope_for_five_seconds(
    nc: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    drains: list[Callable[[], None]] = []

    def hold_open(on_drain: Callable[[], None]) -> Callable[[], None]:
        drains.append(on_drain)
        return lambda: None

    monkeypatch.setattr(nc, "_hold_open", hold_open)
    async with bounded():
        async with natsery.serve(nc, config(add)) as service:
            (drain,) = drains
            drained = anyio.current_time()
            drain()
            await service.wait_stopped()
        assert anyio.current_time() - drained == pytest.approx(5)


async def test_a_server_that_is_away_holds_nobody(broker: MemoryBroker, nc: Connection) -> None:
    async with bounded():
        async with natsery.serve(nc, config(add)):
            broker.disconnect(nc)
            left = anyio.current_time()
        assert anyio.current_time() == left


async def test_a_server_that_is_being_left_and_says_nothing_leaves_the_next_one_its_second(
    broker: MemoryBroker, nc: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The replies that the next one got were not waited for."""
    monkeypatch.setattr(type(nc), "_may_deliver", True, raising=False)

    async def come_back() -> None:
        await anyio.sleep(1.5)
        broker.reconnect(nc)

    async with bounded(10_000), anyio.create_task_group() as tasks:
        async with natsery.serve(nc, config(add)):
            begun = anyio.current_time()
            broker.disconnect(nc)
            tasks.start_soon(come_back)
        assert anyio.current_time() - begun == pytest.approx(1.5)


async def test_a_stats_handler_gets_five_seconds_and_keeps_nobody_from_a_ping(nc: Connection) -> None:
    heard: list[Exception] = []

    async def data(stats: natsery.EndpointStats) -> object:
        if stats.name == "stuck":
            await anyio.sleep_forever()
        return {"seen": stats.num_requests}

    def hear(error: Exception, endpoint: natsery.Endpoint | None, request: natsery.Request | None) -> None:
        heard.append(error)

    arrivals: Arrivals = []
    async with bounded(), natsery.serve(nc, config(stuck, add, stats_handler=data, error_handler=hear)):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, nc, "$SRV.PING", arrivals)
            begun = anyio.current_time()
            first, second = json.loads((await nc.request("$SRV.STATS.calc")).data)["endpoints"]
            assert anyio.current_time() - begun == pytest.approx(5)
    assert "data" not in first
    assert second["data"] == {"seen": 0}
    assert arrivals == [(0, None)]
    assert [type(error) for error in heard] == [TimeoutError]


async def test_an_error_handler_gets_five_seconds(nc: Connection, caplog: pytest.LogCaptureFixture) -> None:
    cut_off: list[float] = []

    async def broken(request: natsery.Request) -> None:
        raise LookupError

    async def hear(error: Exception, endpoint: natsery.Endpoint | None, request: natsery.Request | None) -> None:
        begun = anyio.current_time()
        try:
            await anyio.sleep_forever()
        finally:
            cut_off.append(anyio.current_time() - begun)

    async with bounded(), natsery.serve(nc, config(broken, add, error_handler=hear)):
        assert error_of(await nc.request("broken")) == "500:Internal Server Error"
        assert (await nc.request("add", b"1+1")).data == b"2"
        await anyio.sleep(6)
    assert cut_off == [pytest.approx(5)]
    assert "the error handler raised" in caplog.text


async def test_a_subscription_that_does_not_end_holds_the_scope_for_seconds_only(
    nc: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was waiting then got no answer."""
    arrivals: Arrivals = []

    async with bounded(), anyio.create_task_group() as tasks:
        async with natsery.serve(nc, config(stuck), grace=0) as service:
            wait_before_unsubscribing(monkeypatch, math.inf)
            for _ in range(3):
                tasks.start_soon(ask, nc, "stuck", arrivals)
            await anyio.wait_all_tasks_blocked()
            left = anyio.current_time()
        assert anyio.current_time() - left == pytest.approx(
            2
        )  # for those of the endpoints, and those of the control plane
    assert [error for _, error in arrivals] == ["503:Service Stopping"] * 3
    assert service.stats().endpoints[0].failures == {"stopping": 3}


async def test_the_error_of_a_deadline_says_how_long_the_request_ran_or_waited(nc: Connection) -> None:
    heard: list[tuple[bool, float]] = []

    def hear(error: Exception, endpoint: natsery.Endpoint | None, request: natsery.Request | None) -> None:
        assert isinstance(error, natsery.DeadlineExceededError)
        heard.append((error.has_started, error.seconds))

    endpoint = natsery.EndpointConfig("stuck", stuck, timeout=1.5, pending_seconds=0.5)
    clock = natsery.Clock(monotonic_ns=lambda: round(anyio.current_time() * 1e9))
    async with bounded(), natsery.serve(nc, config(endpoint, clock=clock, error_handler=hear)):
        await anyio.sleep(1)
        for _ in range(2):
            await nc.publish("stuck", reply="replies")
        await anyio.sleep(2)
    exactly = pytest.approx(1.5, abs=1e-10)
    assert heard == [(True, exactly), (False, exactly)]


def wait_before_unsubscribing(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Have subscriptions in memory wait before they end, as those over a connection with a full buffer do."""
    unsubscribe = MemorySubscription._unsubscribe

    async def wait_and_unsubscribe(subscription: MemorySubscription) -> None:
        await anyio.sleep(seconds)
        await unsubscribe(subscription)

    monkeypatch.setattr(MemorySubscription, "_unsubscribe", wait_and_unsubscribe)


@pytest.mark.parametrize("seconds", [0.01, math.inf])
async def test_a_handler_that_outlasts_all_deadlines_leaves_no_subscription(
    nc: Connection, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    async def shields_itself(request: natsery.Request) -> None:
        scope.cancel()
        with anyio.CancelScope(shield=True):
            await anyio.sleep(30)

    async with bounded(60):
        with anyio.CancelScope() as scope:
            async with natsery.serve(nc, config(shields_itself), grace=0):
                wait_before_unsubscribing(monkeypatch, seconds)
                await nc.publish("shields_itself", reply="replies")
                await anyio.sleep_forever()
        assert not nc._subscriptions or seconds == math.inf  # type: ignore[attr-defined]


@pytest.mark.parametrize("seconds", [0.01, math.inf])
async def test_an_endpoint_that_comes_after_the_stop_is_taken_back_in_time(
    nc: Connection, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    async def add_late() -> None:
        with scope:
            await service.add_endpoint(add)

    async def subscribe_late(interest: Interest) -> FastSubscription:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(5)
            return await subscribe(interest)

    scope = anyio.CancelScope()
    async with bounded(60), anyio.create_task_group() as tasks:
        async with natsery.serve(nc, config(), grace=0) as service:
            subscribe = service._context.fast_path._subscribe
            monkeypatch.setattr(service._context.fast_path, "_subscribe", subscribe_late)
            tasks.start_soon(add_late)
            await anyio.wait_all_tasks_blocked()
        scope.cancel()
        wait_before_unsubscribing(monkeypatch, seconds)
    assert scope.cancelled_caught
    assert not nc._subscriptions or seconds == math.inf  # type: ignore[attr-defined]
