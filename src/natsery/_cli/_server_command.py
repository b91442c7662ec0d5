"""``natsery server``: a nats-server in the foreground."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import click

from .._tasks import background_tasks
from ..testing import open_server
from ._exit_codes import CommandError
from ._output import complain, say
from ._runner import run_async

STOP_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)
)
"""What ends the command as it is meant to end; the terminal's end is among it, or the server would outlive it."""


@click.command
@click.option("--port", type=click.IntRange(1, 65535), metavar="PORT", help="Where to listen; a free port if left out.")
@click.option("--jetstream", is_flag=True, help="With JetStream; its data is gone at the end.")
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A nats-server's configuration file; its host and port do not count.",
)
@click.option("--log", "show_log", is_flag=True, help="Show the server's log, on stderr.")
def server(port: int | None, config: Path | None, *, jetstream: bool, show_log: bool) -> None:
    """Run a nats-server on this machine until Ctrl-C.

    Prints its URL first. It is for trying things out: it listens on 127.0.0.1 only, and nothing of it is left at the end.
    Needs natsery[server].
    """
    run_async(_serve, port, config, jetstream, show_log)


async def _serve(port: int | None, config: Path | None, jetstream: bool, show_log: bool) -> None:
    # Those that are ignored, as nohup has it, stay so. A signal that comes early ends a server that starts, too.
    heeded = [each for each in STOP_SIGNALS if signal.getsignal(each) is not signal.SIG_IGN]
    with anyio.open_signal_receiver(*heeded) as signals:
        async with background_tasks() as tasks:
            with anyio.CancelScope() as scope:
                tasks.start_soon(_stop_at_signal, signals, scope)
                async with open_server(port=port, config=config, jetstream=jetstream, show_log=show_log) as running:
                    say(running.url)
                    raise CommandError(f"nats-server ended by itself: {await running.wait_exit()}")
    complain("nats-server stopped")


async def _stop_at_signal(signals: AsyncIterator[signal.Signals], scope: anyio.CancelScope) -> None:
    async for number in signals:
        scope.cancel(f"received {number.name}")
