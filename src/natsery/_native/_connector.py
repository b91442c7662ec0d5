"""Connecting to one of several servers: first, again after a failure, and away from a server in lame-duck mode."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import final

import anyio

from .._errors import AuthorizationError, ConnectError, NatseryError, SecureConnectionError
from .._protocol._addresses import Address, Target
from .._tasks import raise_as_it_is
from ._authentication import CredentialsUnavailableError
from ._greetings import open_greetings
from ._handshake import Link, log_in
from ._options import Options
from ._resolver import look_up
from ._server_pool import ServerPool

logger = logging.getLogger("natsery")


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
        attempts = _Round(pool, options, _note_or_raise)
        for address in pool.next_round():
            link = await attempts.open_link(address)
            if link is not None:
                return link
        if not options.retry_first_connect:
            raise ConnectError(attempts.failures)
        logger.info("%s; trying again", ConnectError(attempts.failures))
        await backoff.wait()


def _note_or_raise(attempts: _Round, target: Target, error: Exception) -> None:
    if isinstance(error, CredentialsUnavailableError):
        raise_as_it_is(error.error)
    if isinstance(error, (AuthorizationError, SecureConnectionError)) or not isinstance(error, (OSError, NatseryError)):
        raise_as_it_is(error)
    attempts.note_failure(target, error)


async def reconnect(pool: ServerPool, options: Options, backoff: Backoff, report: Callable[[Exception], None]) -> Link:
    """Return a new connection after one has broken, with a back-off before each round through the servers.

    Args:
        pool: the servers.
        options: the options of the connection.
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

    def note(attempts: _Round, target: Target, error: Exception) -> None:
        failure = error.error if isinstance(error, CredentialsUnavailableError) else error
        attempts.note_failure(target, failure)
        if failure is error and not isinstance(error, AuthorizationError):  # whatever else stands in the way
            failing_since.pop(target.ip_port, None)
            return
        report(failure)
        now = anyio.current_time()
        if now - failing_since.setdefault(target.ip_port, now) >= options.credentials_grace:
            raise_as_it_is(failure)

    rounds = 0
    while True:
        # Also before the first round, so that the clients of a restarted server do not all reconnect at the same moment.
        await backoff.wait()
        attempts = _Round(pool, options, note)
        for address in pool.next_round():
            link = await attempts.open_link(address)
            if link is not None:
                return link
        rounds += 1
        logger.info("reconnecting, round %d: %s", rounds, ConnectError(attempts.failures))
        if options.max_reconnect_rounds is not None and rounds >= options.max_reconnect_rounds:
            raise ConnectError(attempts.failures)


async def connect_elsewhere(pool: ServerPool, options: Options, current: Target) -> Link | None:
    """Return a connection to a server other than ``current``, or ``None`` if there is none."""
    attempts = _Round(pool, options, _log, without=current)
    for address in pool.next_round():
        while (link := await attempts.open_link(address)) is not None:
            if not link.info.lame_duck:
                return link
            await link.close()
    return None


def _log(attempts: _Round, target: Target, error: Exception) -> None:  # noqa: ARG001  # this connection still works
    logger.info(
        "cannot move to %s: %r", target, error.error if isinstance(error, CredentialsUnavailableError) else error
    )


@final
class _Round:
    """One round through the servers, in which every IP address is tried at most once, under whatever name it is known.

    Args:
        pool: the servers.
        options: the options of the connection.
        on_failure: called with this round, each target that has failed, and why; ends the round if it raises.
        without: what not to try.

    Attributes:
        failures: each target and name that has failed, and why.
    """

    def __init__(
        self,
        pool: ServerPool,
        options: Options,
        on_failure: Callable[[_Round, Target, Exception], None],
        *,
        without: Target | None = None,
    ) -> None:
        self.failures: list[tuple[str, Exception]] = []
        self._pool = pool
        self._options = options
        self._on_failure = on_failure
        self._tried = set() if without is None else {without.ip_port}

    async def open_link(self, address: Address) -> Link | None:
        """Connect to a server at one of its IP addresses that has not been tried yet; ``None`` if there is no more.

        Raises:
            Exception: what ``on_failure`` raises.
        """
        link: Link | None = None
        try:
            async with open_greetings(await self._targets(address), self._options) as greetings:
                while link is None and (answer := await greetings.next()) is not None:
                    target, greeting = answer
                    self._tried.add(target.ip_port)
                    failure = greeting if isinstance(greeting, Exception) else None
                    if not isinstance(greeting, Exception):
                        try:
                            link = await log_in(greeting, self._options)
                        except Exception as error:
                            failure = error
                    if failure is not None:
                        self._on_failure(self, target, failure)
                    else:
                        for overtaken in greetings.unanswered:
                            self._pool.note_failure(overtaken)
                        self._pool.note_success(target)
        except BaseException:
            if link is not None:
                await link.close()  # noqa: ASYNC102  # does not wait
            raise
        return link

    async def _targets(self, address: Address) -> list[Target]:
        """Return where to try a server, in order; nowhere if its name cannot be resolved, which is one of the failures."""
        seconds = self._options.connect_timeout
        failure: OSError = TimeoutError(f"gave up after {seconds:g} s (connect_timeout), waiting for the resolver")
        with anyio.move_on_after(seconds):
            try:
                ips = await look_up(address.host)
            except OSError as error:
                failure = error
            else:
                return [each for each in self._pool.targets(address, ips) if each.ip_port not in self._tried]
        self._pool.note_failure(address)
        self.failures.append((str(address), failure))
        return []

    def note_failure(self, target: Target, error: Exception) -> None:
        """Note that a target has failed."""
        self._pool.note_failure(target)
        self.failures.append((str(target), error))


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
