"""`serve_forever`: a service as a task, or as all that a program does."""

from __future__ import annotations

import signal

import anyio
import pytest

import natsery
from natsery.abc import Connection

from ..bounds import bounded
from ..calc_service import config
from ..virtual_time import IN_VIRTUAL_TIME

pytestmark = pytest.mark.anyio


async def stuck(request: natsery.Request) -> None:
    await anyio.sleep_forever()


@IN_VIRTUAL_TIME
async def test_accepted_requests_get_the_grace_that_it_is_given(nc: Connection) -> None:
    async with bounded(), anyio.create_task_group() as tasks:
        service = await tasks.start(
            lambda *, task_status: natsery.serve_forever(nc, config(stuck), grace=3, task_status=task_status)
        )
        await nc.publish("stuck")
        await anyio.wait_all_tasks_blocked()
        begun = anyio.current_time()
        service.stop()
        await service.wait_stopped()
        assert anyio.current_time() - begun == pytest.approx(3)


async def test_signals_end_it_where_it_is_told_so(nc: Connection) -> None:
    before = signal.getsignal(signal.SIGTERM)

    async def serve(stop_on_signals: dict[str, bool], *, task_status: anyio.abc.TaskStatus[natsery.Service]) -> None:
        await natsery.serve_forever(nc, config(), task_status=task_status, **stop_on_signals)

    async with bounded(), anyio.create_task_group() as tasks:
        one = await tasks.start(serve, {})
        assert signal.getsignal(signal.SIGTERM) is before
        other = await tasks.start(serve, {"stop_on_signals": True})
        assert signal.getsignal(signal.SIGTERM) is not before
        signal.raise_signal(signal.SIGTERM)
        await other.wait_stopped()
        one.stop()
