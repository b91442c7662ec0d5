"""When nobody answers: whether the server is to blame."""

from __future__ import annotations

import anyio

from ..._native._native_connection import NativeConnection
from .._exit_codes import CommandError, Exit

SERVER_SECONDS = 1.0
"""How long a server may take to answer a PING before it is to blame."""


async def check_server(nc: NativeConnection) -> None:
    """Look whether the server is there and answers.

    Raises:
        CommandError: it does not, and that is why nobody else did.
    """
    if not nc.is_connected:
        raise CommandError("the connection to the server is lost", Exit.UNREACHABLE)
    with anyio.move_on_after(SERVER_SECONDS):
        await nc.flush()
        return
    raise CommandError("the server answers no more", Exit.TIMEOUT)
