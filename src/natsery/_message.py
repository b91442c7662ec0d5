"""A NATS message, as a value."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from ._core import MessageFields
from ._headers import NO_HEADERS, Headers


class Message(MessageFields):
    """One message from a subscription.

    Attributes:
        subject: the subject it was published to.
        reply: where an answer is wanted, ``""`` if none is.
        data: the payload.
        headers: its headers, empty if it has none.
        status: the server's inline status, such as 503 for no responders; 0 if there is none.
    """

    __slots__ = ()

    def __init__(
        self,
        subject: str,
        data: bytes = b"",
        reply: str = "",
        headers: Headers = NO_HEADERS,
        status: int = 0,
    ) -> None:
        self.subject = subject
        self.data = data
        self.reply = reply
        self.headers = headers
        self.status = status

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(subject={self.subject!r}, data={self.data!r}, reply={self.reply!r}, "
            f"headers={self.headers!r}, status={self.status})"
        )


Deliver: TypeAlias = Callable[[Message], None]
"""Takes one message, synchronously, in the connection's event loop; must be quick and must not raise."""
