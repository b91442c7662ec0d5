"""`open_server`: a real nats-server for async programs."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from .._checks import WrongType, check_argument
from ._nats_server import NatsServer


@asynccontextmanager
async def open_server(
    *,
    port: int | None = None,
    jetstream: bool = False,
    config: str | os.PathLike[str] | None = None,
    show_log: bool = False,
) -> AsyncGenerator[NatsServer, None]:
    """Run a nats-server on 127.0.0.1 for the length of a block::

        async with open_server(jetstream=True) as server, natsery.connect(server.url) as nc:
            ...

    It keeps its files in a temporary folder. It gets no Ctrl-C from the terminal, so that clients can still drain after one.
    At the end of the block it is asked to end, and killed after five seconds.

    Args:
        port: where clients connect; a free port if left out.
        jetstream: with JetStream, whose data is gone at the end of the block.
        config: the path of a configuration file. Its ``host`` and ``port`` do not count.
        show_log: send its log to this process's stderr.

    Raises:
        TypeError, ValueError: an option breaks a rule.
        ServerProcessError: nats-server is not installed, the port is taken, or it does not accept clients within ten seconds.

    **Cancellation:** the server has ended before the cancellation goes on; that takes at most ten seconds.
    """
    if config is not None:
        check_argument("config", config, _path_rule)
    server = NatsServer("" if config is None else Path(config), port=port, jetstream=jetstream, show_log=show_log)
    try:
        await server._launch().wait_ready_async()
        yield server
    finally:
        await server._end()  # noqa: ASYNC102  # shielded and bounded in there


def _path_rule(value: object) -> str | None:
    return None if isinstance(value, (str, os.PathLike)) else WrongType("must be the path of a file")
