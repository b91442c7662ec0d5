"""An event loop that tests without one drive step by step, for state machines."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, ExitStack
from typing import Any
from unittest import TestCase

import anyio
from anyio.from_thread import start_blocking_portal
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine


class Portal:
    """Runs coroutine functions in an event loop of another thread, and returns when everything there waits again."""

    def __init__(self, backend: str) -> None:
        self._stack = ExitStack()
        self._portal = self._stack.enter_context(start_blocking_portal(backend))

    def enter(self, context: AbstractAsyncContextManager[Any]) -> Any:
        """Enter a block that is left when the portal closes."""
        return self._stack.enter_context(self._portal.wrap_async_context_manager(context))

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function, async or not, and return its result."""
        result = self._portal.call(function, *args)
        self.settle()
        return result

    def start(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """Start a task; cancelling the future cancels it."""
        future = self._portal.start_task_soon(function, *args)
        self.settle()
        return future

    def start_until_started(self, function: Callable[..., Any], *args: Any) -> tuple[Future[Any], Any]:
        """Start a task and return it, and what it has said by ``task_status.started``."""
        started = self._portal.start_task(function, *args)
        self.settle()
        return started

    def settle(self) -> None:
        self._portal.call(anyio.wait_all_tasks_blocked)

    def close(self) -> None:
        self._stack.close()


def case_of(machine: type[RuleBasedStateMachine], backend: str) -> type[TestCase]:
    """Return the test of a state machine that has a ``backend``, with few examples: each takes a loop of its own."""
    case = type(f"{machine.__name__}On{backend.title()}", (machine,), {"backend": backend}).TestCase
    case.settings = settings(max_examples=settings.default.max_examples // 5)
    return case
