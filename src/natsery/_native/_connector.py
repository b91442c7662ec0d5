"""Finding a server that takes the connection, at the start and again."""

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
from ._pool import Pool

logger = logging.getLogger("natsery")

REFUSALS = 2
"""Times that one server must refuse the credentials, one after the other, before a reconnect gives up."""

Failures: TypeAlias = "list[tuple[str, Exception]]"


async def connect_first(pool: Pool, options: Options) -> Link:
    """The first connection: each server once, or again and again if the options say so.

    Raises:
        ConnectError: no server could be reached.
        AuthorizationError, SecureConnectionError, ConfigError: as soon as one server says so; trying again would not help.
    """
    pause = Pause(options)
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
        await pause.wait()


async def reconnect(pool: Pool, options: Options, last: Address, pause: Pause) -> Link:
    """Another connection in place of one that broke, with pauses that grow from round to round.

    Raises:
        ConnectError: the rounds that the options allow were in vain.
        AuthorizationError, ConfigError: a server refused the credentials twice in a row, or they could not be read.
        Exception: what a user's function for credentials raised, twice in a row.
    """
    refusals: Counter[tuple[str, int]] = Counter()
    rounds = 0
    while True:
        # Also before the first round, so that a server's clients do not all come back in the same moment.
        await pause.wait()
        failures: Failures = []
        for address in pool.next_round(last):
            try:
                return await open_link(address, options)
            except Exception as error:
                failures.append((str(address), error))
                # What is neither came out of a user's function that gives credentials.
                is_refusal = isinstance(error, (AuthorizationError, ConfigError))
                if is_refusal or not isinstance(error, (OSError, NatseryError)):
                    refusals[address.place] += 1
                    if refusals[address.place] >= REFUSALS:
                        raise
                else:
                    refusals[address.place] = 0
        rounds += 1
        logger.info("reconnecting, round %d: %s", rounds, ConnectError(failures))
        if options.max_reconnect_rounds is not None and rounds >= options.max_reconnect_rounds:
            raise ConnectError(failures)


async def connect_elsewhere(pool: Pool, options: Options, here: Address) -> Link | None:
    """A connection to another server than this one, if there is any that takes it."""
    for address in pool.next_round(here):
        if address.place != here.place:
            try:
                link = await open_link(address, options)
            except Exception as error:  # a function that gives credentials may raise anything
                logger.info("cannot move to %s: %r", address, error)
                continue
            if not link.info.lame_duck:
                return link
            await anyio.aclose_forcefully(link.stream)
    return None


@final
class Pause:
    """Waits that double up to a limit, each shortened at random."""

    def __init__(self, options: Options) -> None:
        self._first_wait = options.reconnect_wait
        self._max_wait = options.max_reconnect_wait
        self.reset()

    def reset(self) -> None:
        """Begin again with the shortest."""
        self._wait = min(self._first_wait, self._max_wait)

    async def wait(self) -> None:
        await anyio.sleep(random.uniform(0, self._wait))  # noqa: S311  # no secret
        self._wait = min(2 * self._wait, self._max_wait)
