"""Asks services for their STATS when somebody wants metrics, once for all who want them at the same time."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Final, final

import anyio
import anyio.lowlevel

import natsery

from .._connection_options._server_check import check_server
from .._discovery._query import Query
from .._exit_codes import CommandError, Exit, line_of
from .._http import Response
from ._exposition import Scrape, write
from ._ledger import Ledger

FRESH_SECONDS: Final = 1.0
"""How long metrics are given again without asking."""

PATH: Final = "/metrics"
"""Where the metrics are."""


@final
class Exporter:
    """The metrics of services.

    Args:
        nc: where to ask.
        query: whom to ask, and how long.
        prefix: the control prefix.
        max_series: how many time series of services there are at most.
    """

    def __init__(self, nc: natsery.abc.Connection, query: Query, *, prefix: str, max_series: int) -> None:
        self._nc = nc
        self._query = query
        self._client = natsery.ServiceClient(nc, prefix=prefix)
        self._ledger = Ledger(max_series)
        self._malformed = 0
        self._dropped = 0
        self._lock = anyio.Lock()
        self._written: tuple[str, bytes] = "", b""
        self._time = -math.inf

    @property
    def text(self) -> str:
        """The metrics of the last time."""
        return self._written[1].decode()

    async def metrics(self) -> tuple[str, bytes]:
        """Return the content type and the text of the metrics: those of a second ago, or new ones.

        Those who call while services are being asked wait for these answers.

        Raises:
            CommandError: the server is disconnected, disconnects meanwhile, or does not answer.
            PublishDeniedError, SubscriptionDeniedError: the user may not request STATS.
            ConnectionClosedError: the connection is closed for good.

        **Cancellation:** the next one asks again. A checkpoint.
        """
        async with self._lock:
            if anyio.current_time() - self._time >= FRESH_SECONDS:
                await self.scrape()
            return self._written

    async def scrape(self) -> natsery.Replies[natsery.ServiceStats]:
        """Ask the services and return their replies. Raises what ``metrics`` raises. A checkpoint."""
        start = anyio.current_time()
        replies = await self._ask()
        now = self._time = anyio.current_time()
        self._malformed += len(replies.malformed)
        self._dropped += replies.dropped
        self._ledger.add(replies, now)
        scrape = Scrape(seconds=now - start, malformed=self._malformed, dropped=self._dropped)
        self._written = write(self._ledger, scrape, now)
        return replies

    async def _ask(self) -> natsery.Replies[natsery.ServiceStats]:
        with anyio.CancelScope() as scope:

            def handle_event(event: natsery.ConnectionEvent) -> None:
                if event.kind is natsery.EventKind.DISCONNECTED:
                    # Those who have not answered yet are not away.
                    scope.cancel("the server disconnected")

            stop_listening = self._nc.add_listener(handle_event)
            try:
                if not self._nc.is_connected:
                    scope.cancel("the server is disconnected")
                replies = await self._client.stats(**self._query.arguments())
                if not replies and replies.ended is not natsery.EndReason.NO_RESPONDERS:
                    await check_server(self._nc)
                return replies
            finally:
                stop_listening()
        raise CommandError("the connection to the server is lost", Exit.UNREACHABLE)

    async def respond(self, path: str) -> Response:
        """Answer a request for a path: with the metrics for ``/metrics``, with 503 if there are none now. A checkpoint."""
        if path != PATH:
            await anyio.lowlevel.checkpoint()
            return Response.of_text(HTTPStatus.NOT_FOUND, f"the metrics are at {PATH}")
        try:
            return Response(HTTPStatus.OK, *await self.metrics())
        except (CommandError, natsery.NatseryError) as error:
            text = error.message if isinstance(error, CommandError) else line_of(error)
            return Response.of_text(HTTPStatus.SERVICE_UNAVAILABLE, text)
