"""The queue whose items one task works off: its order, its bounds, and the turns of other tasks."""

from __future__ import annotations

import anyio
import pytest

from natsery._service._work_queue import WorkQueue

from ..bounds import bounded

pytestmark = pytest.mark.anyio


class Worked(list[str]):
    """Notes the items that are worked off, each when it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = anyio.Event()

    async def consume(self, item: str) -> None:
        await self.let_go.wait()
        self.append(item)


async def test_items_are_worked_off_in_order_and_the_last_one_is_waited_for() -> None:
    worked = Worked()
    queue = WorkQueue(worked.consume, 1)
    await queue.wait_empty()

    async def wait() -> None:
        await queue.wait_empty()
        assert worked == ["a", "b"]
        tasks.cancel_scope.cancel()

    async with bounded(), anyio.create_task_group() as tasks:
        assert [queue.put(each) for each in "ax"] == [True, False]
        tasks.start_soon(queue.run)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()  # the first one is in hand
        assert [queue.put(each) for each in "bx"] == [True, False]
        worked.let_go.set()


async def test_so_many_bytes_may_wait_and_one_item_that_is_larger() -> None:
    worked = Worked()
    worked.let_go.set()
    queue = WorkQueue(worked.consume, 10, max_bytes=100)

    def fill() -> None:
        assert queue.put("a", 60)
        assert not queue.put("x", 41)
        assert queue.put("b")  # weighs nothing
        assert queue.put("c", 40)
        assert not queue.put("x", 1)

    fill()
    assert queue.clear() == ["a", "b", "c"]
    fill()
    async with bounded(), anyio.create_task_group() as tasks:
        tasks.start_soon(queue.run)
        await queue.wait_empty()
        fill()
        await queue.wait_empty()
        assert queue.put("d", 101)
        assert not queue.put("x", 1)
        await queue.wait_empty()
        tasks.cancel_scope.cancel()
    assert worked == ["a", "b", "c", "a", "b", "c", "d"]


@pytest.mark.parametrize(("options", "items"), [({}, 1), ({"turn": 4}, 4)])
async def test_other_tasks_have_their_turn_after_so_many_items(options: dict[str, int], items: int) -> None:
    async def consume(item: str) -> None:
        worked.append(item)
        scope.cancel()  # which is heard where the others have their turn

    worked: list[str] = []
    queue = WorkQueue(consume, 10, **options)
    for each in "abcdefgh":
        queue.put(each)
    async with bounded():
        with anyio.CancelScope() as scope:
            await queue.run()
    assert len(worked) == items
