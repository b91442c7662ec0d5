"""Background tasks: what leaves their block is what was raised."""

from __future__ import annotations

import anyio
import pytest

from natsery._tasks import background_tasks

pytestmark = pytest.mark.anyio


class Stop(BaseException):
    """Neither an `Exception` nor a cancellation, as what Ctrl-C raises."""


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


async def fail(error: BaseException) -> None:
    raise error


async def fail_at_the_end(error: BaseException) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        raise error


@pytest.mark.parametrize("kind", [LookupError, Stop])
async def test_a_task_that_fails_ends_the_block_with_its_own_error(kind: type[BaseException]) -> None:
    error = kind("task")
    error.__cause__ = cause = ValueError("cause")
    with pytest.raises(kind) as caught:
        async with background_tasks() as tasks:
            tasks.start_soon(fail, error)
            await anyio.sleep_forever()
    assert caught.value is error
    assert (error.__cause__, error.__context__) == (cause, None)


async def test_groups_of_one_in_one_another_are_taken_apart() -> None:
    """As Ctrl-C while anyio connects, in a task group of its own."""
    error = Stop()
    with pytest.raises(Stop) as caught:
        async with background_tasks() as tasks:
            tasks.start_soon(fail, BaseExceptionGroup("anyio's", [BaseExceptionGroup("inner", [error])]))
            await anyio.sleep_forever()
    assert caught.value is error


async def test_two_tasks_that_fail_leave_a_group() -> None:
    errors = LookupError("one"), Stop("two")
    with pytest.RaisesGroup(LookupError, Stop) as caught:
        async with background_tasks() as tasks:
            for error in errors:
                tasks.start_soon(fail_at_the_end, error)
            await anyio.wait_all_tasks_blocked()
    assert set(caught.value.exceptions) == set(errors)


async def test_a_block_and_a_task_that_fail_leave_a_group() -> None:
    """The task's error was in a group of its own in there."""
    errors = LookupError("block"), Stop("task")
    with pytest.RaisesGroup(LookupError, Stop) as caught:
        async with background_tasks() as tasks:
            tasks.start_soon(fail_at_the_end, errors[1])
            await anyio.wait_all_tasks_blocked()
            raise errors[0]
    assert caught.value.exceptions == errors


async def test_a_block_that_fails_leaves_its_own_error() -> None:
    error = LookupError("block")
    with pytest.raises(LookupError) as caught:
        async with background_tasks() as tasks:
            tasks.start_soon(anyio.sleep_forever)
            raise error
    assert caught.value is error
    assert (error.__cause__, error.__context__) == (None, None)
