"""Where a command listens for HTTP, and a server there for the length of a block."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple, final

import anyio
import click

from ._exit_codes import CommandError
from ._http import Respond, serve_http

DEFAULT_HOST: Final = "127.0.0.1"
"""Where it listens unless the command line says."""

LAST_PORT: Final = 65_535

_ADDRESS = re.compile(r"(?:(?:\[(?P<address>[^]\s]+)\]|(?P<name>[^:\s\[\]]*)):)?(?P<port>[0-9]{1,5})", re.ASCII)


@final
class Address(NamedTuple):
    """Where to listen.

    Attributes:
        host: a name or an IP address, ``""`` for all addresses of this machine.
        port: 0 for a free one.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def url(self, path: str) -> str:
        """Return the URL of a path there."""
        return f"http://{self._replace(host=self.host or '*')}{path}"


def read_address(text: str) -> Address:
    """Read ``PORT``, ``HOST:PORT`` or ``:PORT``, which is for all addresses; the type of an option."""
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match["port"]) > LAST_PORT:
        raise click.BadParameter(f"{text!r} is not [HOST:]PORT, such as 9100, 127.0.0.1:9100, [::1]:9100 or :9100.")
    named = match["address"] or match["name"]
    return Address(DEFAULT_HOST if named is None else named, int(match["port"]))


@asynccontextmanager
async def listening(
    option: str, address: Address, respond: Respond, *, reuse_port: bool = False
) -> AsyncIterator[Address]:
    """Answer HTTP for the length of a block, which gets the address with the port that was free.

    With ``reuse_port``, another process that says so too may listen there meanwhile.

    Raises:
        CommandError: it cannot listen there; it names the option.
    """
    async with anyio.create_task_group() as tasks:
        try:
            port = await tasks.start(serve_http, address.host or None, address.port, respond, reuse_port)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
            if error.errno == errno.EADDRINUSE:
                reason += "; write another port, or 0 for a free one"
            raise CommandError(f"{option}: cannot listen at {address}: {reason}") from error
        yield address._replace(port=port)
        tasks.cancel_scope.cancel("nobody is to be answered any more")
