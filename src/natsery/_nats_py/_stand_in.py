"""What stands in the place of one of a nats-py client's methods, for as long as anybody needs it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from nats.aio.client import Client


class StandIn:
    """Is called in place of a client's method. One serves all who attach it to the same client.

    Attributes:
        method: the method's name.
        call: what is called; of the method's own parameters.
    """

    method: ClassVar[str]
    call: ClassVar[Callable[..., Awaitable[None]]]

    def __init__(self, client: Client) -> None:
        self._client = client
        self._own = vars(client).get(self.method)  # a program's own, if it has put one there
        self._next: Callable[..., Any] = getattr(client, self.method)
        self._users = 0

    @classmethod
    def attach(cls, client: Client) -> Callable[[], None]:
        """Stand in until what is returned is called; what has begun then goes on."""
        current = getattr(getattr(client, cls.method), "__self__", None)
        stand_in = current if isinstance(current, cls) else cls(client)
        stand_in._users += 1
        setattr(client, cls.method, stand_in.call)
        return stand_in._detach

    def _detach(self) -> None:
        self._users -= 1
        if self._users == 0:
            delattr(self._client, self.method)
            if self._own is not None:
                setattr(self._client, self.method, self._own)
