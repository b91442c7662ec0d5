"""The event loop that is running: its name, and the clock that deadlines are set by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from anyio.lowlevel import current_token

from ._backends import is_trio

_OF_THE_OTHER: Final = {
    "no running event loop": "asyncio",
    "trio.run received unrecognized yield message": "asyncio",
    "must be called from async context": "trio",
    "Task got bad yield": "trio",
}
"""How the errors begin that code of the one event loop meets in the other."""


def loop_clock() -> Callable[[], float]:
    """Return the running event loop's ``anyio.current_time``, which may be called in that loop's callbacks, too."""
    return current_token().backend_class.current_time


def loop_name() -> str:
    """Return anyio's name of the running event loop, ``"trio"`` or ``"asyncio"``."""
    return "trio" if is_trio() else "asyncio"


def note_wrong_loop(error: BaseException) -> None:
    """Have an error say what to write, if it comes of code for the event loop that is not running."""
    text = error.args[0] if type(error) in (RuntimeError, TypeError) and error.args else None
    if type(text) is not str:
        return
    other = next((loop for start, loop in _OF_THE_OTHER.items() if text.startswith(start)), None)
    if other not in (None, loop_name()):
        error.add_note(f"{loop_name()} is running; if this is for {other}, write ServiceConfig(backend={other!r})")
