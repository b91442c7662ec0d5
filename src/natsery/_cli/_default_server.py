"""The server that commands connect to unless they are told another, and what to do where it is not up."""

from __future__ import annotations

from typing import Final

import natsery

DEFAULT_SERVER: Final = "nats://127.0.0.1:4222"


def hint_after(error: Exception) -> str:
    """Return the end of an error message: how to start the default server, if nobody listens there."""
    if not isinstance(error, natsery.ConnectError):
        return ""
    is_down = any(url == DEFAULT_SERVER and isinstance(cause, ConnectionRefusedError) for url, cause in error.failures)
    return "; 'natsery server' starts a server there, and --server URL takes another" if is_down else ""
