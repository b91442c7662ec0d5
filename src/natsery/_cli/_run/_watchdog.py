"""``--watchdog``: ends a process whose event loop stands still, for somebody to start another."""

from __future__ import annotations

import contextvars
import os
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import FrameType
from typing import Final, final

import anyio

import natsery

from .._exit_codes import Exit
from .._output import print_status
from ._loading import NATSERY_FOLDER

LOOKS: Final = 4
"""How often it is looked at in the time that it may stand still."""


@asynccontextmanager
async def watching(seconds: float | None, label: str) -> AsyncIterator[None]:
    """End the process with status 1 if the event loop stands still for so long during a block.

    It says which endpoint's handler that is, with its traceback. A handler that keeps the interpreter to itself, as some C code
    does, keeps this from seeing it, too.
    """
    if seconds is None:
        yield
        return
    watchdog = Watchdog(seconds, label, threading.get_ident())
    # The lines that it prints go where this task's do.
    run = contextvars.copy_context().run
    threading.Thread(target=run, args=(watchdog.watch,), name="natsery watchdog", daemon=True).start()
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watchdog.beat, name="natsery watchdog")
            yield
            tasks.cancel_scope.cancel("nothing is to be watched any more")
    finally:
        watchdog.stop()


@final
class Watchdog:
    """Looks from a thread of its own whether the event loop runs.

    Args:
        seconds: how long it may stand still.
        label: the beginning of each line that it prints.
        thread: the thread of the event loop.
    """

    def __init__(self, seconds: float, label: str, thread: int) -> None:
        self._seconds = seconds
        self._label = label
        self._thread = thread
        self._last_beat = time.monotonic()
        self._stopped = threading.Event()

    async def beat(self) -> None:
        """Show that the event loop runs, until cancelled."""
        while True:
            self._last_beat = time.monotonic()
            await anyio.sleep(self._seconds / LOOKS)

    def stop(self) -> None:
        """End the watch."""
        self._stopped.set()

    def watch(self) -> None:
        """End the process when the event loop has stood still for too long; return after ``stop``."""
        pause = self._seconds / LOOKS
        stood_still = 0.0
        seen, looked = self._last_beat, time.monotonic()
        while not self._stopped.wait(pause):
            now = time.monotonic()
            # Counted in looks: when the whole process was stopped, or the machine asleep, this thread has not looked either.
            stood_still = stood_still + min(now - looked, 2 * pause) if self._last_beat == seen else 0.0
            seen, looked = self._last_beat, now
            if stood_still >= self._seconds:
                self._report()
                sys.stderr.flush()
                sys.stdout.flush()
                os._exit(Exit.FAILED)

    def _report(self) -> None:
        frame = sys._current_frames().get(self._thread)
        endpoint = _endpoint_of(frame)
        where = (
            "" if endpoint is None else f" in the endpoint {endpoint.name!r} of the service {endpoint.service.name!r}"
        )
        print_status(f"{self._label}the event loop has stood still for {self._seconds:g} s{where}; the process ends")
        stack = traceback.extract_stack(frame)
        natsery_frames = [index for index, each in enumerate(stack) if each.filename.startswith(NATSERY_FOLDER)]
        # What a handler does comes after the last of them; before it is the event loop.
        shown = stack[natsery_frames[-1] + 1 :] if natsery_frames else stack
        print_status("".join(traceback.format_list(shown or stack)).rstrip())


def _endpoint_of(frame: FrameType | None) -> natsery.Endpoint | None:
    """Return the endpoint whose handler a thread runs, which is a local variable of whatever calls it."""
    while frame is not None:
        for value in frame.f_locals.values():
            if isinstance(value, natsery.Endpoint):
                return value
        frame = frame.f_back
    return None
