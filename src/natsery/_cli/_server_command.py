"""``natsery server``: a nats-server in the foreground."""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import click

from natsery.testing import NatsServer, ServerProcessError, open_server

from ._exit_codes import CommandError
from ._output import print_error, print_line
from ._runner import run_async
from ._stop_signals import until_signal

DEFAULT_PORT = 4222
"""The port that clients use unless told otherwise, so that programs find the server without any setting."""


@click.command
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="Where to listen; 0 for a free port. [default: 4222, or a free port if that is taken]",
)
@click.option("--jetstream", is_flag=True, help="Enable JetStream; its data is deleted at the end.")
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="nats-server's configuration file; its host and port are ignored.",
)
@click.option("--log", "show_log", is_flag=True, help="Show the server's log on stderr.")
def server(port: int | None, config: Path | None, *, jetstream: bool, show_log: bool) -> None:
    """Run a nats-server on this machine until Ctrl-C.

    Prints its URL first. It is for trying things out: it listens on 127.0.0.1 only, and its data is deleted at the end.
    Needs natsery[server].
    """
    # The signals are handled before the server is started, so that one ends a server that is still starting, too.
    run_async(until_signal, _serve, port, {"config": config, "jetstream": jetstream, "show_log": show_log})
    print_error("nats-server stopped")


async def _serve(port: int | None, options: dict[str, Any]) -> None:
    async with _open(port, options) as server:
        print_line(server.url)
        raise CommandError(f"nats-server ended by itself: {await server.wait_exit()}")


@asynccontextmanager
async def _open(port: int | None, options: dict[str, Any]) -> AsyncIterator[NatsServer]:
    """Run the server, without a port on the default one if that is free."""
    async with AsyncExitStack() as stack:
        server: NatsServer | None = None
        if port is None and _is_free(DEFAULT_PORT):
            try:
                server = await stack.enter_async_context(open_server(port=DEFAULT_PORT, **options))
            except ServerProcessError:
                if _is_free(DEFAULT_PORT):
                    raise
        if server is None:
            server = await stack.enter_async_context(open_server(port=port or None, **options))
            if port is None:
                print_error(
                    f"port {DEFAULT_PORT} is taken, so it is {server.port}; other commands need NATS_URL={server.url}"
                )
        yield server


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        if sys.platform != "win32":  # where this means something else
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
