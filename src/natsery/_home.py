"""The event loop and the process that an object belongs to."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, NoReturn, final
from weakref import WeakSet

from anyio import NoEventLoopError
from anyio.lowlevel import checkpoint_if_cancelled

from ._backends import checkpoint_for_threads, functions_of_loop

_NOWHERE: Final = object()


def _nowhere() -> None:
    return None


@final
class Home:
    """Knows the event loop that it was made in; any is home to what was made where none was running, as requests for tests.

    Args:
        is_for_threads: whether callers are what threads have the event loop run.

    Attributes:
        loop: what identifies it.
        loop_of_caller: returns what identifies the caller's loop; a `RuntimeError` if that is of another kind.
        checkpoint_if_cancelled: as `anyio.lowlevel.checkpoint_if_cancelled`, without a search for the event loop.
    """

    __slots__ = ("__weakref__", "_process", "checkpoint_if_cancelled", "loop", "loop_of_caller")

    def __init__(self, *, is_for_threads: bool = False) -> None:
        self._process = os.getpid()
        self.loop: object = None
        self.loop_of_caller: Callable[[], object] = _nowhere
        self.checkpoint_if_cancelled: Callable[[], Awaitable[None]] = checkpoint_if_cancelled
        with suppress(NoEventLoopError):
            self.loop_of_caller, self.checkpoint_if_cancelled = functions_of_loop()
            self.loop = self.loop_of_caller()
            if is_for_threads:
                self.checkpoint_if_cancelled = checkpoint_for_threads()
            _homes.add(self)

    def check(self) -> None:
        """Check that the caller is at home.

        Raises:
            RuntimeError: it is in another event loop, as in another thread, or in a forked process.
        """
        try:
            here = self.loop_of_caller()
        except RuntimeError:
            here = None
        if here is not self.loop:
            self.refuse()

    def refuse(self) -> NoReturn:
        """Raise the error for a caller that is not at home."""
        if os.getpid() != self._process:
            raise RuntimeError(
                f"this NATS connection belongs to process {self._process}, of which this one is a fork; open another "
                "connection here"
            )
        raise RuntimeError(
            "this NATS connection belongs to another event loop than the one that calls it; open another connection here, or "
            "have that loop make the call, from a thread with trio.from_thread.run, anyio.from_thread.run or "
            "asyncio.run_coroutine_threadsafe"
        )

    def leave(self) -> None:
        """Let no caller pass, since this is a copy in a forked process."""
        self.loop = _NOWHERE


_homes: WeakSet[Home] = WeakSet()


def _leave_all() -> None:
    for home in list(_homes):
        home.leave()


if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no forks
    os.register_at_fork(after_in_child=_leave_all)
