"""The exit statuses of the ``natsery`` command, and which error ends in which."""

from __future__ import annotations

import signal
from enum import IntEnum
from typing import final

import click

from .._errors import (
    AuthorizationError,
    ConfigError,
    ConnectError,
    ConnectionClosedError,
    NatseryError,
    NoRespondersError,
    SecureConnectionError,
)
from .._service_error import ServiceError
from ._format import printable


@final
class Exit(IntEnum):
    """How the command ends, for scripts."""

    OK = 0
    FAILED = 1
    """An error reply, or something that the other statuses do not say."""
    USAGE = 2
    """The command line is wrong; nothing was done."""
    UNREACHABLE = 3
    """No server can be reached, or it refuses the credentials, or the connection closed."""
    NOBODY = 4
    """Nobody listens on the subject, or no such service answered."""
    TIMEOUT = 5
    """The server or the service did not answer in time."""
    INTERRUPTED = 130
    """Ctrl-C, as shells have it."""
    TERMINATED = 143
    """SIGTERM, as shells have it."""


@final
class CommandError(click.ClickException):
    """Ends the command with one line on stderr and a status of its own."""

    def __init__(self, message: str, status: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.exit_code = int(status)  # type: ignore[misc]  # click reads it from the instance


def status_of(error: Exception) -> Exit:
    """The exit status for an error."""
    match error:
        case ConfigError():
            return Exit.USAGE
        case ConnectError() | AuthorizationError() | SecureConnectionError() | ConnectionClosedError():
            return Exit.UNREACHABLE
        case NoRespondersError():
            return Exit.NOBODY
        case TimeoutError():
            return Exit.TIMEOUT
        case _:
            return Exit.FAILED


def status_after(how: int) -> Exit:
    """The exit status of what a signal has cut off."""
    return Exit.INTERRUPTED if how == signal.SIGINT else Exit.TERMINATED


def line_of(error: Exception) -> str:
    """What a person is told of an error, in one line."""
    if isinstance(error, ServiceError):
        return f"error {error.code}: {error.description}"
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    text = str(error) if isinstance(error, (NatseryError, OSError, TimeoutError)) else repr(error)
    return printable(" ".join(text.split())) or type(error).__name__
