"""The exit statuses of the ``natsery`` command, and which error ends in which."""

from __future__ import annotations

import signal
from enum import IntEnum
from typing import Any, final

import click

import natsery

from ._default_server import hint_after
from ._format import printable


@final
class Exit(IntEnum):
    """The command's exit status, for scripts."""

    OK = 0
    FAILED = 1
    """An error reply, or a failure without a status of its own."""
    USAGE = 2
    """The command line is wrong; nothing was done."""
    UNREACHABLE = 3
    """No server can be reached, it refuses the credentials, or the connection closed."""
    NOT_FOUND = 4
    """Nothing listens on the subject, or no such service answered."""
    TIMEOUT = 5
    """The server or the service did not answer in time."""
    INTERRUPTED = 130
    """Ctrl-C; what shells use for SIGINT."""
    TERMINATED = 143
    """SIGTERM; what shells use for it."""


class CommandError(click.ClickException):
    """An error that ends the command with one line on stderr and a given exit status."""

    def __init__(self, message: str, status: Exit = Exit.FAILED) -> None:
        # It may name what the user has typed, and hold a traceback.
        super().__init__(printable(message, keep="\n\t"))
        self.exit_code = int(status)  # type: ignore[misc]  # click reads it from the instance


@final
class LoggedError(CommandError):
    """An error that has been said already."""

    def show(self, file: Any = None) -> None:
        """Say nothing more."""


def status_of(error: Exception) -> Exit:
    """Return the exit status for an error."""
    match error:
        case natsery.ConfigError():
            return Exit.USAGE
        case (
            natsery.ConnectError()
            | natsery.AuthorizationError()
            | natsery.SecureConnectionError()
            | natsery.ConnectionClosedError()
        ):
            return Exit.UNREACHABLE
        case natsery.NoRespondersError() | natsery.UnknownEndpointError():
            return Exit.NOT_FOUND
        case TimeoutError():
            return Exit.TIMEOUT
        case _:
            return Exit.FAILED


def status_after(signal_number: int) -> Exit:
    """Return the exit status after a signal that cut requests off."""
    return Exit.INTERRUPTED if signal_number == signal.SIGINT else Exit.TERMINATED


def line_of(error: Exception) -> str:
    """Return the line that tells the user of an error."""
    if isinstance(error, natsery.ServiceError):
        return f"error {error.code}: {error.description}"
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    text = str(error) if isinstance(error, (natsery.NatseryError, OSError, TimeoutError)) else repr(error)
    return printable(" ".join(text.split()) + hint_after(error)) or type(error).__name__
