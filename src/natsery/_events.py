"""What happens to a connection, as values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias, final


@final
class EventKind(StrEnum):
    """What can happen to a connection."""

    CONNECTED = "connected"
    """The server is there: the first event of ``Connection.events`` on a connection that is up."""

    DISCONNECTED = "disconnected"
    """The server is away and the connection tries to come back."""

    RECONNECTED = "reconnected"
    """It is back and every subscription has been sent again; a ``flush`` waits until the server has taken them."""

    LAME_DUCK = "lame_duck"
    """The server is about to shut down; a native connection moves to another one if it knows any."""

    CLOSED = "closed"
    """It is closed for good; nothing follows."""

    ERROR = "error"
    """Something went wrong that ends nothing: a denied publish, a slow consumer, an error that the server reports."""


@final
@dataclass(frozen=True)
class ConnectionEvent:
    """Something that happened to a connection, and the error behind it if there is one."""

    kind: EventKind
    error: Exception | None = None


Listener: TypeAlias = Callable[[ConnectionEvent], None]
"""Called with a connection's events, synchronously, in its event loop; must be quick and must not raise."""
