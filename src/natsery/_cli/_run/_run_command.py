"""``natsery run``: serves what a module configures."""

from __future__ import annotations

import importlib.util
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, TypeAlias

import anyio
import click

from ..._adr32 import DEFAULT_PREFIX
from ..._config import ServiceConfig, check_seconds
from ..._service._serve import DEFAULT_GRACE
from ...testing import open_server
from .._connection_options._help import ConnectingCommand
from .._connection_options._settings import Settings, connection_options
from .._exit_codes import CommandError, Exit
from .._output import tell
from .._runner import run_async
from ._channel import channel_on_stdin
from ._loading import load, raised
from ._reloading import check_installed
from ._supervisor import Supervisor
from ._worker import Worker, show_log

Main: TypeAlias = Callable[[Settings, AsyncIterator[signal.Signals]], Awaitable[Exit]]
"""What runs in the event loop: it gets how to connect, and the signals that come."""


@click.command(cls=ConnectingCommand)
@click.argument("target", metavar="MODULE[:CONFIG]")
@click.option("--backend", type=click.Choice(["trio", "asyncio"]), help="The event loop. [default: trio]")
@click.option("--uvloop", is_flag=True, help="Run on asyncio with uvloop.")
@click.option(
    "--workers", type=click.IntRange(min=1), metavar="N", help="Serve in N processes, and replace those that crash."
)
@click.option("--reload", is_flag=True, help="Drain and start anew when a Python file below this folder changes.")
@click.option(
    "--grace",
    type=float,
    default=DEFAULT_GRACE,
    show_default=True,
    metavar="SECONDS",
    help="How long accepted requests get at the end.",
)
@click.option("--embedded-server", is_flag=True, help="Serve on a nats-server of its own, for development.")
@click.option("--worker", type=int, hidden=True)  # how a supervisor calls its workers
@connection_options
def run(
    settings: Settings,
    target: str,
    backend: str | None,
    workers: int | None,
    grace: float,
    worker: int | None,
    *,
    uvloop: bool,
    reload: bool,
    embedded_server: bool,
) -> Exit:
    """Serve the ServiceConfig that a module or a file holds.

    CONFIG is "config" if left out. It may also be a list of configurations, or a function that returns one or several.

    \b
      natsery run calc
      natsery run shop.services:calc --workers 4
      natsery run calc.py --reload --embedded-server

    The first Ctrl-C or SIGTERM drains: no more requests are taken, those accepted are finished within the grace. The second
    one answers them with 503. The exit status is 0 when all was drained, 1 when something had to be cut off or a worker was
    given up, 2 when the configuration cannot be loaded, 3 without a server, and 130 or 143 after a second signal.
    """  # noqa: D301  # click wants the character that \\b is
    check_seconds("--grace", grace, zero=True, infinite=True)
    chosen, options = _loop(backend, uvloop=uvloop)
    if reload:
        check_installed()
    if worker is None and (workers is not None or reload):
        if sys.platform == "win32":
            raise CommandError("--workers and --reload need signals and sessions, which Windows has not")
        command = [sys.executable, "-m", "natsery", "run", target, "--grace", str(grace), "--backend", chosen]
        command += ["--uvloop"] * uvloop + ["--worker"]

        async def supervise(settings: Settings, signals: AsyncIterator[signal.Signals]) -> Exit:
            return await Supervisor(command, workers=workers, grace=grace, reload=reload).run(settings, signals)

        return run_async(_main, settings, supervise, embedded_server)
    # Before the module is loaded: what that starts is not to have the line to the supervisor as its stdin.
    with nullcontext() if worker is None else channel_on_stdin() as channel:
        configs = [_adapt(config, settings, worker) for config in load(target)]
        label = f"worker {worker}: " if worker else ""
        show_log(label)
        loop = "asyncio with uvloop" if uvloop else chosen
        is_described = worker in (None, 0, 1)

        async def work(settings: Settings, signals: AsyncIterator[signal.Signals]) -> Exit:
            worker = Worker(configs, grace=grace, loop=loop, label=label, channel=channel, is_described=is_described)
            return await worker.run(settings, signals)

        try:
            return run_async(_main, settings, work, embedded_server, backend=chosen, backend_options=options)
        except click.ClickException:
            raise
        except Exception as error:  # what a handler, or a program around the service, ended it with
            raise raised(target, error, Exit.FAILED) from error


def _loop(backend: str | None, *, uvloop: bool) -> tuple[str, dict[str, Any]]:
    if not uvloop:
        return backend or "trio", {}
    if backend == "trio":
        raise click.UsageError("--uvloop is for asyncio; leave out --backend trio.")
    if importlib.util.find_spec("uvloop") is None:
        raise CommandError("--uvloop needs uvloop; run: pip install 'natsery[uvloop]'")
    return "asyncio", {"use_uvloop": True}


def _adapt(config: ServiceConfig, settings: Settings, worker: int | None) -> ServiceConfig:
    """The configuration with what the command line says."""
    if settings.prefix != DEFAULT_PREFIX:
        config = replace(config, prefix=settings.prefix)
    if worker and config.id is not None:
        config = replace(config, id=f"{config.id}-{worker}")  # no two instances may have the same one
    return config


def _stop_signals() -> list[signal.Signals]:
    """What ends the command: Ctrl-C, those who tell it to, and the end of its terminal unless ``nohup`` is to spare it that."""
    hang_up = [signal.SIGHUP] if hasattr(signal, "SIGHUP") else []  # Windows has none
    return [signal.SIGINT, signal.SIGTERM, *(each for each in hang_up if signal.getsignal(each) is not signal.SIG_IGN)]


async def _main(settings: Settings, main: Main, embedded_server: bool) -> Exit:
    with anyio.open_signal_receiver(*_stop_signals()) as signals:
        if not embedded_server:
            return await main(settings, signals)
        async with open_server() as server:
            tell(f"nats-server at {server.url}, for as long as this runs")
            return await main(Settings(servers=(server.url,), prefix=settings.prefix), signals)
