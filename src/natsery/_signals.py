"""Signals that stop services: the first one drains, the second one cuts off, and a third one does what it always does."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, final

from anyio.lowlevel import RunVar

from ._backends import caller_into_this_loop

STOP_SIGNALS: Final = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)
)
"""Ctrl-C, what service managers send, and Ctrl-Break on Windows."""


@final
class StopSignals:
    """Has the signals stop the services of one event loop, all at once; made by ``in_this_loop``."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._stops: list[Callable[..., None]] = []
        self._previous: dict[signal.Signals, Any] = {}
        self._received = 0
        self._stop_soon = caller_into_this_loop(self._stop)

    @classmethod
    def in_this_loop(cls) -> StopSignals:
        """Return that of the running event loop.

        Raises:
            RuntimeError: it does not run in the main thread.
        """
        thread = threading.current_thread()
        if thread is not threading.main_thread():
            raise RuntimeError(
                f"stop_on_signals=True: Python handles signals in the main thread only, and this is {thread.name!r}; leave it "
                "out here, and have the main thread call service.stop with trio.from_thread.run_sync or "
                "loop.call_soon_threadsafe"
            )
        found = _of_this_loop.get(None)
        if found is None:
            _of_this_loop.set(found := cls())
        return found

    def add(self, stop: Callable[..., None]) -> None:
        """Have the signals call a service's ``stop``."""
        if not self._stops:
            self._received = 0
            self._take()
        self._stops.append(stop)

    def discard(self, stop: Callable[..., None]) -> None:
        """Leave a service out again; without any, the signals do what they did before."""
        if stop in self._stops:
            self._stops.remove(stop)
            if not self._stops:
                self._give_back()

    def _take(self) -> None:
        for number in STOP_SIGNALS:
            previous = signal.getsignal(number)
            # One that is ignored stays so, as Ctrl-C is for what a shell runs in the background. None is a handler in C.
            if previous not in (signal.SIG_IGN, None):
                self._previous[number] = previous
                signal.signal(number, self._handle)

    def _give_back(self) -> None:
        while self._previous:
            number, previous = self._previous.popitem()
            if signal.getsignal(number) == self._handle:  # or the program has put another one in its place
                signal.signal(number, previous)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        """Have the event loop stop the services: a signal may come in the middle of anything."""
        if os.getpid() == self._process:
            self._stop_soon()
        else:  # pragma: no cover - runs, but coverage has written its data before
            # In a forked process, which has no service, but must end when it is told to.
            self._give_back()
            signal.raise_signal(number)

    def _stop(self) -> None:
        self._received += 1
        for stop in self._stops:
            stop(grace=None if self._received == 1 else 0)
        if self._received > 1:
            self._give_back()


_of_this_loop: RunVar[StopSignals | None] = RunVar("natsery stop signals")
