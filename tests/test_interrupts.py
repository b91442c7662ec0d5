"""Ctrl-C in trio programs strikes where it can be borne."""

from __future__ import annotations

import signal
from collections.abc import Coroutine
from typing import Any

import anyio
import pytest
import trio

from natsery._interrupts import start_task


async def body(ran: list[str]) -> None:
    await anyio.lowlevel.checkpoint()
    ran.append("to its end")


def interrupted(ran: list[str]) -> Coroutine[Any, Any, None]:
    """A task function during whose call Ctrl-C is pressed."""
    signal.raise_signal(signal.SIGINT)
    return body(ran)


def test_a_task_is_started_whole() -> None:
    """Ctrl-C between the making of a coroutine and its start left a coroutine that nobody awaited."""
    ran: list[str] = []

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            start_task(tasks, interrupted, ran, name="interrupted")
            with anyio.CancelScope(shield=True):
                with pytest.raises(KeyboardInterrupt):
                    await trio.sleep_forever()
            await anyio.wait_all_tasks_blocked()

    trio.run(main)
    assert ran == ["to its end"]


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_task_is_started(backend: str) -> None:
    ran: list[str] = []

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            start_task(tasks, body, ran, name="body")

    anyio.run(main, backend=backend)
    assert ran == ["to its end"]
