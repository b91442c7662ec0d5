"""Sees, from a thread of its own, that an event loop stands still, and says where."""

from __future__ import annotations

import contextvars
import os
import sys
import threading
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NoReturn, final

import anyio

import natsery

from .._exit_codes import Exit
from ._loading import NATSERY_FOLDER

TICKS = 10
"""How many times in its ``seconds`` the thread looks whether the loop has moved."""

MAX_FRAMES = 20
"""How many frames of the traceback are shown, the innermost ones."""

MAX_CHARACTERS = 8_000
"""How long a description may be; it has to fit into one message to the supervisor."""

LAST_WORD_SECONDS = 5.0
"""How long a process that ends itself tries to say why: whoever reads its stderr may have stopped."""


@final
class Watchdog:
    """Watches an event loop: a task in the loop counts, and a thread sees whether it goes on counting.

    Args:
        seconds: how long the loop may stand still. What counts is time in which the process runs: if it is suspended, the
            thread is suspended with it.
        on_hang: called once, in the thread, with a description of what the loop stands still in.
    """

    def __init__(self, seconds: float, on_hang: Callable[[str], object]) -> None:
        self._seconds = seconds
        self._interval = seconds / TICKS
        self._on_hang = on_hang
        self._count = 0
        self._ended = threading.Event()

    async def run(self) -> None:
        """Watch the event loop that this runs in, until cancelled."""
        loop = threading.get_ident()
        # In this task's context, which says where lines are written.
        watch = partial(contextvars.copy_context().run, self._watch, loop)
        threading.Thread(target=watch, name="natsery watchdog", daemon=True).start()
        try:
            while True:
                await anyio.sleep(self._interval)
                self._count += 1
        finally:
            self._ended.set()

    def _watch(self, loop: int) -> None:
        seen, ticks = self._count, 0
        # Ticks are counted, not seconds: a process that wakes after an hour has missed one tick, and not 3,600 seconds.
        while not self._ended.wait(self._interval):
            ticks += 1
            if self._count != seen:
                seen, ticks = self._count, 0
            elif ticks >= TICKS:
                frame = sys._current_frames().get(loop)
                self._on_hang(f"the event loop has stood still for {self._seconds:g} s{describe(frame)}")
                return


def describe(frame: FrameType | None) -> str:
    """Say which endpoint's handler a frame runs in, and how it got there; frames of natsery and the event loop left out."""
    frames = [] if frame is None else [each for each, _ in traceback.walk_stack(frame)]
    endpoint = next((found for each in frames for found in _endpoints_in(each)), None)
    where = "" if endpoint is None else f" in endpoint {endpoint.name!r} ({endpoint.subject})"
    event_loops = _folders("anyio", "asyncio", "outcome", "trio", "uvloop")
    # The outermost frames started the command.
    in_loop = [number for number, each in enumerate(frames) if each.f_code.co_filename.startswith(event_loops)]
    frames = frames[: max(in_loop, default=len(frames))]
    shown = [each for each in frames if not each.f_code.co_filename.startswith((NATSERY_FOLDER, *event_loops))]
    shown = (shown or frames)[:MAX_FRAMES][::-1]
    lines = traceback.StackSummary.extract((each, each.f_lineno) for each in shown).format()
    return f"{where}:\n{''.join(lines).rstrip()[-MAX_CHARACTERS:]}"


def _endpoints_in(frame: FrameType) -> list[natsery.Endpoint]:
    # The program's own frames may hold other endpoints.
    if not frame.f_code.co_filename.startswith(NATSERY_FOLDER):
        return []
    return [value for value in frame.f_locals.values() if isinstance(value, natsery.Endpoint)]


def _folders(*names: str) -> tuple[str, ...]:
    """Return the folders of those packages that are imported."""
    files = [getattr(sys.modules.get(name), "__file__", None) for name in names]
    return tuple(f"{Path(file).parent}{os.sep}" for file in files if file is not None)


def end_process(say: Callable[[], object]) -> NoReturn:
    """End this process as a failure, whatever its event loop does, after having said why if anybody listens."""

    def say_and_flush() -> None:
        say()
        sys.stdout.flush()
        sys.stderr.flush()

    speak = partial(contextvars.copy_context().run, say_and_flush)
    speaker = threading.Thread(target=speak, name="natsery last word", daemon=True)
    speaker.start()
    speaker.join(LAST_WORD_SECONDS)
    os._exit(Exit.FAILED)
