"""Finds out whether the server is the reason why no service answers."""

from __future__ import annotations

import anyio

import natsery

from .._exit_codes import CommandError, Exit

SERVER_SECONDS = 1.0
"""How long the server may take to answer a PING."""


async def check_server(nc: natsery.abc.Connection) -> None:
    """Check that the server is connected and answers.

    Raises:
        CommandError: it is not, or does not.
    """
    if not nc.is_connected:
        raise CommandError("the connection to the server is lost", Exit.UNREACHABLE)
    with anyio.move_on_after(SERVER_SECONDS):
        await nc.flush()
        return
    raise CommandError("the server does not answer any more", Exit.TIMEOUT)
