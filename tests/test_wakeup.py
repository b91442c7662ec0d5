"""The contract of wake-ups, in every event loop, as the loop makes them and as connections do."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from natsery._backends import new_handover
from natsery._wakeup import Wakeup, new_wakeup

from .bounds import bounded
from .conftest import BACKENDS

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[pytest.param(backend, id=name) for name, backend in BACKENDS.items()])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


@pytest.fixture(params=[new_wakeup, lambda: new_handover().new_wakeup()], ids=["plain", "of a connection"])
def make(request: pytest.FixtureRequest) -> Callable[[], Wakeup]:
    return request.param


async def test_it_remembers_that_it_was_set_once(make: Callable[[], Wakeup]) -> None:
    wakeup = make()
    woken = 0

    async def wait() -> None:
        nonlocal woken
        while True:
            await wakeup.wait()
            woken += 1

    wakeup.set()
    wakeup.set()
    async with bounded():
        await wakeup.wait()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            assert woken == 0
            for times in (1, 2, 3):
                wakeup.set()
                await anyio.wait_all_tasks_blocked()
                assert woken == times
            tasks.cancel_scope.cancel()


async def test_a_task_that_is_cancelled_leaves_it_to_the_next(make: Callable[[], Wakeup]) -> None:
    wakeup = make()
    async with bounded():
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wakeup.wait)
                await anyio.wait_all_tasks_blocked()
                scope.cancel()
        assert scope.cancelled_caught
        wakeup.set()
        await wakeup.wait()


@pytest.mark.parametrize("is_set_first", [True, False])
async def test_it_is_set_and_the_task_cancelled_in_one_turn(make: Callable[[], Wakeup], *, is_set_first: bool) -> None:
    """Whichever wins, the task goes on once, and whoever waits next is not left behind."""
    wakeup = make()
    ends = 0

    async def wait() -> None:
        nonlocal ends
        try:
            await wakeup.wait()
        finally:
            ends += 1

    async with bounded():
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                await anyio.wait_all_tasks_blocked()
                for act in (wakeup.set, scope.cancel)[:: 1 if is_set_first else -1]:
                    act()
        assert ends == 1
        wakeup.set()
        await wakeup.wait()
