"""Runs an async function for a command: its errors become one line and an exit status."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, TypeVarTuple, Unpack

import anyio

from .._errors import NatseryError
from ._exit_codes import CommandError, line_of, status_of

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


def run_async(
    function: Callable[[Unpack[Arguments]], Awaitable[T]],
    *arguments: *Arguments,
    backend: str = "trio",
    backend_options: dict[str, Any] | None = None,
) -> T:
    """Run ``function(*arguments)`` in an event loop of its own and return what it returns.

    Raises:
        CommandError: for what a user can do something about: natsery's own errors, of the system, and time-outs.
    """
    try:
        return anyio.run(function, *arguments, backend=backend, backend_options=backend_options or {})
    except BrokenPipeError:
        raise  # whoever read the output has left, and nobody is to be told
    except (NatseryError, OSError, TimeoutError) as error:
        raise CommandError(line_of(error), status_of(error)) from error
    except BaseExceptionGroup as group:
        # An interrupt may meet an error on its way out; the interrupt is what the user asked for.
        interrupts, _ = group.split(KeyboardInterrupt)
        if interrupts is None:
            raise
        raise KeyboardInterrupt from None
