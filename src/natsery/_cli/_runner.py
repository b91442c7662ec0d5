"""Runs an async function for a command: its errors become one line and an exit status."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, TypeVarTuple, Unpack

import anyio

import natsery
from natsery_command import INTERRUPTS

from ._exit_codes import CommandError, line_of, status_of

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


def run_async(
    function: Callable[[Unpack[Arguments]], Awaitable[T]],
    *arguments: *Arguments,
    backend: str = "trio",
    backend_options: dict[str, Any] | None = None,
) -> T:
    """Run ``function(*arguments)`` in a new event loop and return what it returns.

    An exception that is alone in the exception group of a task group is raised without the group.

    Raises:
        CommandError: for errors that the user can do something about: natsery's, those of the system, and time-outs.
    """

    async def run() -> T:
        INTERRUPTS.check()  # that of the imports of an event loop
        return await function(*arguments)

    try:
        return anyio.run(run, backend=backend, backend_options=backend_options or {})
    except BaseException as error:  # noqa: ASYNC103  # raised below; no task catches it here
        failure = _unwrap(error)
    # Outside of the block, so that the group does not become the context of what was in it.
    if isinstance(failure, (natsery.NatseryError, OSError)) and not isinstance(failure, BrokenPipeError):
        raise CommandError(line_of(failure), status_of(failure)) from failure
    raise failure


def _unwrap(error: BaseException) -> BaseException:
    """Return what the command ends with: an interrupt before other errors, and a group only if several are in it."""
    if isinstance(error, BaseExceptionGroup):
        if error.subgroup(KeyboardInterrupt) is not None:
            return KeyboardInterrupt()
        if len(error.exceptions) == 1:
            return _unwrap(error.exceptions[0])
    elif isinstance(error.__cause__, KeyboardInterrupt):
        return KeyboardInterrupt()  # Python 3.11 makes an error of one that strikes while a class is made
    return error
