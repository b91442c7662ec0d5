"""Asks services for their STATS again and again, as long as the server is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, final

import anyio

from ... import abc
from ..._adr32 import Verb
from ..._client._service_client import ServiceClient
from ..._events import ConnectionEvent, EventKind
from .._exit_codes import line_of
from ._rates import Meter
from ._view import View

PATIENCE: Final = 1.0
"""Seconds that a round waits, if need be, for instances that answered in the last one."""


FIRST_ROUND_SECONDS: Final = 0.5
"""How long the first round is at least: nobody is known yet, so that nobody is waited for."""

LAST_ROUND_SECONDS: Final = 0.3
"""How long a round is at most if nothing is done between its end and the next: newcomers in it have no rates anyway."""


@final
@dataclass(frozen=True, kw_only=True)
class Watch:
    """What is watched, and how.

    Attributes:
        name: a service's name; all services if ``None``.
        prefix: the control prefix.
        interval: seconds between rounds.
        count: rounds with rates after which it ends by itself; never if ``None``.
        view: what is to be seen first.
    """

    name: str | None
    prefix: str
    interval: float
    count: int | None
    view: View

    @property
    def nobody(self) -> str:
        """What is told when nobody answers."""
        return "No service answers." if self.name is None else f"No service {self.name} answers."


@final
class Link:
    """Whether the server is there.

    Attributes:
        is_away: it is not.
        message: what a person is told of it, ``""`` when all is well.
    """

    def __init__(self, nc: abc.Connection, on_change: Callable[[], None]) -> None:
        self.is_away: bool = not nc.is_connected
        self.message: str = ""
        self._on_change = on_change
        self._back = anyio.Event()
        if not self.is_away:
            self._back.set()

    @classmethod
    @contextmanager
    def watch(cls, nc: abc.Connection, on_change: Callable[[], None]) -> Iterator[Link]:
        """Watch a connection for the length of a block."""
        link = cls(nc, on_change)
        stop_listening = nc.add_listener(link._hear)
        try:
            yield link
        finally:
            stop_listening()

    async def wait_back(self) -> None:
        """Wait until the server is there, or the connection is closed for good. A checkpoint."""
        await self._back.wait()

    def _hear(self, event: ConnectionEvent) -> None:
        match event.kind:
            case EventKind.DISCONNECTED:
                self.is_away = True
                self._back = anyio.Event()
                reason = f": {line_of(event.error)}" if event.error is not None else ""
                self.message = f"The server is away, these are the last figures{reason}"
            case EventKind.RECONNECTED | EventKind.CLOSED:
                self.is_away = False
                self.message = ""
                self._back.set()
            case EventKind.LAME_DUCK:
                self.message = "The server is about to shut down"
            case _:
                return
        self._on_change()


@final
class Poller:
    """Asks all services, or those of a name, in rounds; a meter takes what they answer.

    Attributes:
        malformed: answers of the last round that could not be read.
    """

    def __init__(self, nc: abc.Connection, link: Link, meter: Meter, *, name: str | None, prefix: str) -> None:
        self.malformed: int = 0
        self._nc = nc
        self._link = link
        self._client = ServiceClient(nc, prefix=prefix)
        self._meter = meter
        self._name = name

    async def ask(self, seconds: float, on_answer: Callable[[], None] = lambda: None) -> bool:
        """A round of so many seconds, or longer while instances that answered in the last one are missing: `PATIENCE`.

        Late answers are better than none, but those who answered in time must not wait for the dead: who misses a round is
        not waited for in the next. While the server is away, it begins when the server is back.

        Returns:
            False if the server went away meanwhile: then it was no round, and nobody has missed it.

        Raises:
            PublishDeniedError, SubscriptionDeniedError: this user may not ask.
            ConnectionClosedError: the connection is closed for good.

        **Cancellation:** the meter is in the middle of a round. A checkpoint.
        """
        await self._link.wait_back()
        begun = anyio.current_time()
        most = max(seconds, PATIENCE)
        missing = set(self._meter.expected)
        is_broken = False
        with anyio.CancelScope(deadline=begun + (most if missing else seconds)) as scope:

            def hear(event: ConnectionEvent) -> None:
                nonlocal is_broken
                if event.kind is EventKind.DISCONNECTED:
                    is_broken = True
                    scope.cancel("the server went away")

            stop_listening = self._nc.add_listener(hear)
            try:
                async with self._client.discover(Verb.STATS, self._name, wait=most, stall=None) as replies:
                    try:
                        async for stats in replies:
                            self._meter.take(stats, anyio.current_time())
                            missing.discard((stats.name, stats.id))
                            if not missing:
                                scope.deadline = begun + seconds
                            on_answer()
                    finally:
                        self.malformed = len(replies.malformed)
                # Nobody listens: there is nothing to wait for but the next round.
                await anyio.sleep(max(0.0, begun + seconds - anyio.current_time()))
            finally:
                stop_listening()
        if is_broken:
            self._meter.drop_round()
            return False
        self._meter.end_round()
        return True
