"""Signals that end a command which runs until then."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeVarTuple, Unpack

import anyio

Arguments = TypeVarTuple("Arguments")

STOP_SIGNALS: Final = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)
)
"""The signals that end such a command with status 0. SIGHUP is one of them: it must not outlive its terminal."""


async def until_signal(function: Callable[[Unpack[Arguments]], Awaitable[object]], *arguments: *Arguments) -> None:
    """Call an async function, and cancel it at the first of these signals. A checkpoint if the function is one."""
    # Signals that are ignored, as SIGHUP is under nohup, stay ignored.
    signals_to_handle = [each for each in STOP_SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
    with anyio.open_signal_receiver(*signals_to_handle) as signals:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_cancel_at_signal, signals, tasks.cancel_scope)
            await function(*arguments)
            tasks.cancel_scope.cancel("the function has returned")


async def _cancel_at_signal(signals: AsyncIterator[signal.Signals], scope: anyio.CancelScope) -> None:
    async for number in signals:
        scope.cancel(f"received {number.name}")
