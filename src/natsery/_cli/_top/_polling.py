"""Polls services for their STATS while the server is connected."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, final

import anyio

import natsery

from .._exit_codes import line_of
from ._rates import Meter
from ._view import View

MISSING_SECONDS: Final = 1.0
"""How long a round waits for instances that answered in the last one, if that is longer than its own time."""

FIRST_ROUND_SECONDS: Final = 0.5
"""How long the first round is at least: no instance is known yet that it could wait for."""

LAST_ROUND_SECONDS: Final = 0.3
"""How long the last round is at most: instances that are new in it have no rates anyway."""


@final
@dataclass(frozen=True, kw_only=True)
class WatchOptions:
    """The options of ``natsery top``.

    Attributes:
        name: a service's name, ``None`` for all services.
        prefix: the control prefix.
        interval: seconds between rounds.
        count: the number of rounds with rates after which it ends, ``None`` for no limit.
        view: the view at the start.
    """

    name: str | None
    prefix: str
    interval: float
    count: int | None
    view: View

    @property
    def empty_text(self) -> str:
        """The text that is shown if no service answers."""
        return "No service answers." if self.name is None else f"No service {self.name} answers."


@final
class ServerStatus:
    """Whether a connection has its server.

    Attributes:
        is_disconnected: whether the server is disconnected.
        message: the text about it for the user, ``""`` for none.
    """

    def __init__(self, nc: natsery.abc.Connection, on_change: Callable[[], None]) -> None:
        self.is_disconnected: bool = not nc.is_connected
        self.message: str = ""
        self._on_change = on_change
        self._connected = anyio.Event()
        if not self.is_disconnected:
            self._connected.set()

    @classmethod
    @contextmanager
    def watch(cls, nc: natsery.abc.Connection, on_change: Callable[[], None]) -> Iterator[ServerStatus]:
        """Watch a connection for the length of a block; ``on_change`` is called after each change."""
        status = cls(nc, on_change)
        stop_listening = nc.add_listener(status._handle_event)
        try:
            yield status
        finally:
            stop_listening()

    async def wait_connected(self) -> None:
        """Wait until the server is connected, or the connection is closed for good. A checkpoint."""
        await self._connected.wait()

    def _handle_event(self, event: natsery.ConnectionEvent) -> None:
        match event.kind:
            case natsery.EventKind.DISCONNECTED:
                self.is_disconnected = True
                self._connected = anyio.Event()
                reason = f": {line_of(event.error)}" if event.error is not None else ""
                self.message = f"Disconnected from the server, these are the last figures{reason}"
            case natsery.EventKind.RECONNECTED | natsery.EventKind.CLOSED:
                self.is_disconnected = False
                self.message = ""
                self._connected.set()
            case natsery.EventKind.LAME_DUCK:
                self.message = "The server is about to shut down"
            case _:
                return
        self._on_change()


@final
class Poller:
    """Polls all services, or those of a name, in rounds, and adds their replies to a meter.

    Attributes:
        malformed: the number of replies of the last round that could not be read, or were dropped because they came too fast.
    """

    def __init__(
        self, nc: natsery.abc.Connection, status: ServerStatus, meter: Meter, *, name: str | None, prefix: str
    ) -> None:
        self.malformed: int = 0
        self._nc = nc
        self._status = status
        self._client = natsery.ServiceClient(nc, prefix=prefix)
        self._meter = meter
        self._name = name
        self._round: anyio.CancelScope | None = None
        self._excused = 0.0

    def excuse(self, seconds: float) -> None:
        """Give the present round more time: for as long as this program did something else, it could not read replies."""
        self._excused += seconds
        if self._round is not None:
            self._round.deadline += seconds

    async def poll(self, seconds: float, on_reply: Callable[[], None] = lambda: None) -> bool:
        """Do a round of ``seconds``, or of up to `MISSING_SECONDS` while instances that answered in the last one are missing.

        An instance that misses a round is not waited for in the next, so that one that has crashed delays a single round.
        While the server is disconnected, the round does not begin.

        Returns:
            False if the server disconnected meanwhile: the round does not count then, and no instance has missed it.

        Raises:
            PublishDeniedError, SubscriptionDeniedError: the user may not request STATS.
            ConnectionClosedError: the connection is closed for good.

        **Cancellation:** the meter is in the middle of a round. A checkpoint.
        """
        await self._status.wait_connected()
        start = anyio.current_time()
        most = max(seconds, MISSING_SECONDS)
        missing = set(self._meter.expected)
        is_broken = False
        self._excused = 0.0
        with anyio.CancelScope(deadline=start + (most if missing else seconds)) as scope:
            self._round = scope

            def handle_event(event: natsery.ConnectionEvent) -> None:
                nonlocal is_broken
                if event.kind is natsery.EventKind.DISCONNECTED:
                    is_broken = True
                    scope.cancel("the server disconnected")

            stop_listening = self._nc.add_listener(handle_event)
            try:
                async with self._client.discover(natsery.Verb.STATS, self._name, wait=math.inf, stall=None) as replies:
                    try:
                        while True:
                            try:
                                stats = await replies.receive()
                            except anyio.EndOfStream:
                                break
                            except natsery.SlowConsumerError:
                                continue  # one peer that sends too much hides no other
                            self._meter.add(stats, anyio.current_time())
                            missing.discard((stats.name, stats.id))
                            if not missing:
                                scope.deadline = start + seconds + self._excused
                            on_reply()
                    finally:
                        self.malformed = len(replies.malformed) + replies.dropped
                # The stream ends early without responders; the round does not.
                await anyio.sleep(max(0.0, start + seconds - anyio.current_time()))
            finally:
                stop_listening()
        if is_broken:
            self._meter.drop_round()
            return False
        self._meter.end_round()
        return True
