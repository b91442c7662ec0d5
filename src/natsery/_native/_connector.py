"""Connecting to one of several servers: first, again after a failure, and away from a server in lame-duck mode."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import TypeAlias, final

import anyio

from .._errors import AuthorizationError, ConnectError, NatseryError, SecureConnectionError
from .._protocol._addresses import Address
from .._tasks import raise_as_it_is
from ._authentication import CredentialsUnavailableError
from ._handshake import Link, open_link
from ._options import Options
from ._server_pool import ServerPool

logger = logging.getLogger("natsery")

Failures: TypeAlias = "list[tuple[str, Exception]]"


async def connect_first(pool: ServerPool, options: Options) -> Link:
    """Return a first connection, after one round through the servers, or as many as needed with ``retry_first_connect``.

    Raises:
        ConnectError: no server could be reached.
        AuthorizationError, SecureConnectionError: raised at the first server; trying again would not help.
        ConfigError: the same, because the credentials cannot be read.
        Exception: the same, raised by a user's function for credentials or for TLS.
    """
    backoff = Backoff(options)
    while True:
        failures: Failures = []
        for address in pool.next_round(None):
            try:
                return await open_link(address, options)
            except CredentialsUnavailableError as unavailable:
                failure = unavailable.error
            except (AuthorizationError, SecureConnectionError):
                raise
            except (OSError, NatseryError) as error:
                failures.append((str(address), error))
                continue
            raise_as_it_is(failure)
        if not options.retry_first_connect:
            raise ConnectError(failures)
        logger.info("%s; trying again", ConnectError(failures))
        await backoff.wait()


async def reconnect(
    pool: ServerPool, options: Options, last: Address, backoff: Backoff, report: Callable[[Exception], None]
) -> Link:
    """Return a new connection after one has broken, with a back-off before each round through the servers.

    Args:
        pool: the servers.
        options: the options of the connection.
        last: the server of the broken connection, which is tried last in each round.
        backoff: the back-off, continued from earlier reconnects.
        report: called with each failure of the credentials.

    Raises:
        ConnectError: ``max_reconnect_rounds`` rounds have failed.
        AuthorizationError: a server has refused the credentials for longer than ``credentials_grace``.
        ConfigError: the credentials could not be read for longer than that.
        Exception: raised by a user's function, for credentials or for TLS, for longer than that.
    """
    failing_since: dict[tuple[str, int], float] = {}
    """When the credentials began to fail at a server; the network's failures there begin a new time."""
    rounds = 0
    while True:
        # Also before the first round, so that the clients of a restarted server do not all reconnect at the same moment.
        await backoff.wait()
        failures: Failures = []
        for address in pool.next_round(last):
            try:
                return await open_link(address, options)
            except CredentialsUnavailableError as unavailable:
                failure = unavailable.error
            except AuthorizationError as error:
                failure = error
            except Exception as error:  # whatever else stands in the way
                failures.append((str(address), error))
                failing_since.pop(address.host_port, None)
                continue
            failures.append((str(address), failure))
            report(failure)
            now = anyio.current_time()
            if now - failing_since.setdefault(address.host_port, now) >= options.credentials_grace:
                raise_as_it_is(failure)
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
            except CredentialsUnavailableError as unavailable:
                logger.info("cannot move to %s: %r", address, unavailable.error)
                continue
            except Exception as error:  # this connection still works
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
