"""Ctrl-C in trio programs: it ends the body of a scope, and never interrupts the accounting."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVarTuple

from anyio.abc import TaskGroup

from ._backends import is_trio

ArgsT = TypeVarTuple("ArgsT")


def protect_from_interrupt(*functions: Callable[..., Any]) -> None:
    """Have Ctrl-C raise, on trio, in the main task instead of inside these functions or what they call."""
    if is_trio():
        from ._backends._trio import protect_from_interrupt as protect

        for function in functions:
            protect(function)


def start_task(
    tasks: TaskGroup, function: Callable[[*ArgsT], Coroutine[Any, Any, Any]], *args: *ArgsT, name: str
) -> None:
    """Start a task from code that Ctrl-C may strike: not between the making of its coroutine and its start."""
    protect_from_interrupt(_start)
    _start(tasks, function, args, name)


def _start(
    tasks: TaskGroup, function: Callable[..., Coroutine[Any, Any, Any]], args: tuple[Any, ...], name: str
) -> None:
    tasks.start_soon(function, *args, name=name)
