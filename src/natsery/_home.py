"""The event loop and the process that an object belongs to."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import NoReturn, final
from weakref import WeakSet

from anyio import NoEventLoopError

from ._backends import loop_of_callers


@final
class Home:
    """Knows the event loop that it was made in, or the first one that it was checked in if none was running then."""

    __slots__ = ("__weakref__", "_loop", "_loop_of_caller", "_process")

    def __init__(self) -> None:
        self._process = os.getpid()
        self._loop: object = None
        self._loop_of_caller = self._settle
        with suppress(NoEventLoopError):
            self._settle()

    def _settle(self) -> object:
        self._loop_of_caller = loop_of_callers()
        self._loop = loop = self._loop_of_caller()
        _homes.add(self)
        return loop

    def check(self) -> None:
        """Check that the caller is at home.

        Raises:
            RuntimeError: it is in another event loop, as in another thread, or in a forked process.
        """
        try:
            if self._loop_of_caller() is self._loop:
                return
        except RuntimeError:  # there is no event loop of this kind
            pass
        self._refuse()

    def _refuse(self) -> NoReturn:
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

    def _leave(self) -> None:
        """Let no caller pass, since this is a copy in a forked process."""
        self._loop = None


_homes: WeakSet[Home] = WeakSet()


def _leave_all() -> None:
    for home in list(_homes):
        home._leave()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_all)
