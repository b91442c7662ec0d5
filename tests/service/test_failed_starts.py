"""Services that do not come to life, while others look for services."""

from __future__ import annotations

import signal

import anyio
import pytest

import natsery
from natsery.testing import MemoryBroker

from ..calc_service import add, config
from ..virtual_time import IN_VIRTUAL_TIME

pytestmark = [pytest.mark.anyio, IN_VIRTUAL_TIME]


async def test_a_ping_that_comes_before_a_start_fails_does_not_delay_the_end(broker: MemoryBroker) -> None:
    """It waited a second for the answer, which only a service that has started gives."""

    async def ping() -> None:
        for _ in range(100):
            await nc.publish("$SRV.PING", reply="replies")

    async with (
        broker.connect() as nc,
        broker.connect(subscribe=["$SRV.>"]) as restricted,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(ping)
        begun = anyio.current_time()
        with pytest.raises(natsery.SubscriptionDeniedError, match="add"):
            async with natsery.serve(restricted, config(add)):
                pytest.fail("it has started")
        assert anyio.current_time() == begun


async def test_a_service_that_does_not_start_leaves_the_signals_to_the_others(broker: MemoryBroker) -> None:
    async with broker.connect() as nc, broker.connect(subscribe=["$SRV.>"]) as restricted:
        async with natsery.serve(nc, config(), stop_on_signals=True) as service:
            with pytest.raises(natsery.SubscriptionDeniedError, match="add"):
                async with natsery.serve(restricted, config(add), stop_on_signals=True):
                    pytest.fail("it has started")
            signal.raise_signal(signal.SIGTERM)
            await service.wait_stopped()


async def test_a_subscription_that_is_denied_is_named_with_its_queue_group(broker: MemoryBroker) -> None:
    async with broker.connect(subscribe=["$SRV.>"]) as restricted:
        with pytest.raises(natsery.SubscriptionDeniedError) as caught:
            async with natsery.serve(restricted, config(natsery.EndpointConfig("adds", add, subject="a.b"))):
                raise AssertionError
    assert (caught.value.endpoint, caught.value.subject, caught.value.queue_group) == ("adds", "a.b", "q")
