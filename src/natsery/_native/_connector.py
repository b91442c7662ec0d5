"""Connecting to one of several servers: first, again after a failure, and away from a server in lame-duck mode."""

from __future__ import annotations

import logging
import random
from collections import Counter
from typing import TypeAlias, final

import anyio

from .._errors import AuthorizationError, ConfigError, ConnectError, NatseryError, SecureConnectionError
from .._protocol._addresses import Address
from ._handshake import Link, open_link
from ._options import Options
from ._server_pool import ServerPool

logger = logging.getLogger("natsery")

MAX_REFUSALS = 2
"""Consecutive refusals of the credentials by one server after which reconnecting gives up."""

Failures: TypeAlias = "list[tuple[str, Exception]]"


async def connect_first(pool: ServerPool, options: Options) -> Link:
    """Return a first connection, after one round through the servers, or as many as needed with ``retry_first_connect``.

    Raises:
        ConnectError: no server could be reached.
        AuthorizationError, SecureConnectionError, ConfigError: raised at the first server; trying again would not help.
    """
    backoff = Backoff(options)
    while True:
        failures: Failures = []
        for address in pool.next_round(None):
            try:
                return await open_link(address, options)
            except (AuthorizationError, SecureConnectionError, ConfigError):
                raise
            except (OSError, NatseryError) as error:
                failures.append((str(address), error))
        if not options.retry_first_connect:
            raise ConnectError(failures)
        logger.info("%s; trying again", ConnectError(failures))
        await backoff.wait()


async def reconnect(pool: ServerPool, options: Options, last: Address, backoff: Backoff) -> Link:
    """Return a new connection after one has broken, with a back-off before each round through the servers.

    Args:
        pool: the servers.
        options: the options of the connection.
        last: the server of the broken connection, which is tried last in each round.
        backoff: the back-off, continued from earlier reconnects.

    Raises:
        ConnectError: ``max_reconnect_rounds`` rounds have failed.
        AuthorizationError, ConfigError: a server refused the credentials twice in a row, or they could not be read.
        Exception: raised twice in a row by a user's function for credentials.
    """
    refusals: Counter[tuple[str, int]] = Counter()
    rounds = 0
    while True:
        # Also before the first round, so that the clients of a restarted server do not all reconnect at the same moment.
        await backoff.wait()
        failures: Failures = []
        for address in pool.next_round(last):
            try:
                return await open_link(address, options)
            except Exception as error:
                failures.append((str(address), error))
                # An error of another type was raised by a user's function for credentials.
                is_refusal = isinstance(error, (AuthorizationError, ConfigError))
                if is_refusal or not isinstance(error, (OSError, NatseryError)):
                    refusals[address.host_port] += 1
                    if refusals[address.host_port] >= MAX_REFUSALS:
                        raise
                else:
                    refusals[address.host_port] = 0
        rounds += 1
        logger.info("reconnecting, round %d: %s", rounds, ConnectError(failures))
        if options.max_reconnect_rounds is not None and rounds >= options.max_reconnect_rounds:
            raise ConnectError(failures)


async def connect_elsewhere(pool: ServerPool, options: Options, current: Address) -> Link | None:
    """Return a connection to a server other than ``current``, or ``None`` if there is none."""
    for address in pool.next_round(current):
        if address.host_port != current.host_port:
            try:
                link = await open_link(address, options)
            except Exception as error:  # a function for credentials may raise anything
                logger.info("cannot move to %s: %r", address, error)
                continue
            if not link.info.lame_duck:
                return link
            await link.close()
    return None


@final
class Backoff:
    """Waits that double up to a limit, each with full jitter."""

    def __init__(self, options: Options) -> None:
        self._first_wait = options.reconnect_wait
        self._max_wait = options.max_reconnect_wait
        self.reset()

    def reset(self) -> None:
        """Start again with the shortest wait."""
        self._wait = min(self._first_wait, self._max_wait)

    async def wait(self) -> None:
        """Wait, and double the next wait."""
        await anyio.sleep(random.uniform(0, self._wait))  # noqa: S311  # no secret
        self._wait = min(2 * self._wait, self._max_wait)
