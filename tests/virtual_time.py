"""Event loops whose clock stands still while there is something to do, and else jumps to the next deadline.

For tests in memory only: the clocks cannot see a thread or a server, and would not wait for them.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing


class JumpingLoop(asyncio.SelectorEventLoop):
    """What trio's ``MockClock`` is to trio."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_JumpingSelector(self._jump))

    def time(self) -> float:
        return self._now

    def _jump(self, seconds: float) -> None:
        self._now += seconds


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, jump: Callable[[float], None]) -> None:
        super().__init__()
        self._jump = jump

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if not timeout:
            return super().select(timeout)
        ready = super().select(0)
        if not ready:
            self._jump(timeout)
        return ready


def _eager_jumping_loop() -> asyncio.AbstractEventLoop:
    loop = JumpingLoop()
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]  # Python 3.12 and newer
    return loop


def trio_options() -> dict[str, object]:
    return {"clock": trio.testing.MockClock(autojump_threshold=0)}


VIRTUAL_BACKENDS: dict[str, Callable[[], tuple[str, dict[str, object]]]] = {
    "trio": lambda: ("trio", trio_options()),
    "asyncio": lambda: ("asyncio", {"debug": True, "loop_factory": JumpingLoop}),
}
"""What ``anyio_backend`` takes, made anew for each test; uvloop keeps its clock to itself."""
if sys.version_info >= (3, 12):
    VIRTUAL_BACKENDS["eager"] = lambda: ("asyncio", {"loop_factory": _eager_jumping_loop})

IN_VIRTUAL_TIME = pytest.mark.parametrize("anyio_backend", [*VIRTUAL_BACKENDS], indirect=True)
"""For tests in which time passes, where the fixture ``anyio_backend`` takes the names of ``VIRTUAL_BACKENDS``."""


def in_virtual_time(test: Callable[[], Awaitable[None]]) -> float:
    """Run on trio; the seconds that passed."""

    async def main() -> float:
        begun = trio.current_time()
        await test()
        return trio.current_time() - begun

    return trio.run(main, **trio_options())
