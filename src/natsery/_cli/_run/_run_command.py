"""``natsery run``: serves the services that a module configures."""

from __future__ import annotations

import importlib.util
import math
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from typing import Any, TypeAlias

import anyio
import click

import natsery
from natsery.testing import open_server

from .._connection_options._help import ConnectingCommand
from .._connection_options._settings import DEFAULT_PREFIX, Settings, connection_options
from .._exit_codes import CommandError, Exit
from .._output import print_status
from .._runner import run_async
from ._channel import channel_on_stdin
from ._loading import load, user_error
from ._reloading import check_installed
from ._request_limit import RequestLimit
from ._supervisor import Supervisor
from ._worker import ProgramError, Worker, show_log

Main: TypeAlias = Callable[[Settings, AsyncIterator[signal.Signals]], Awaitable[Exit]]
"""The function that runs in the event loop, with the connection settings and the signals that arrive."""


@click.command(cls=ConnectingCommand)
@click.argument("target", metavar="MODULE[:CONFIG]")
@click.option("--backend", type=click.Choice(["trio", "asyncio"]), help="The event loop. [default: trio]")
@click.option("--uvloop", is_flag=True, help="Run on asyncio with uvloop.")
@click.option(
    "--workers", type=click.IntRange(min=1), metavar="N", help="Serve in N processes, and replace those that crash."
)
@click.option("--reload", is_flag=True, help="Drain and start again when a Python file below this folder changes.")
@click.option(
    "--grace",
    type=float,
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long accepted requests may take at the end.",
)
@click.option(
    "--watchdog",
    type=float,
    metavar="SECONDS",
    help="End a process, and replace it with --workers, when its event loop stands still for so long.",
)
@click.option(
    "--max-requests",
    type=click.IntRange(min=1),
    metavar="N",
    help="Exchange a worker that has ended N requests; another one is ready before.",
)
@click.option(
    "--max-requests-jitter",
    type=click.IntRange(min=0),
    metavar="N",
    help="Add a random number up to N to --max-requests, another one for each worker.",
)
@click.option("--embedded-server", is_flag=True, help="Start a nats-server for it, for development.")
@click.option("--worker", type=int, hidden=True)  # for a supervisor, which starts its workers with it
@connection_options
def run(
    settings: Settings,
    target: str,
    backend: str | None,
    workers: int | None,
    grace: float,
    watchdog: float | None,
    max_requests: int | None,
    max_requests_jitter: int | None,
    worker: int | None,
    *,
    uvloop: bool,
    reload: bool,
    embedded_server: bool,
) -> Exit:
    """Serve the ServiceConfig that a module or a file holds.

    CONFIG defaults to "config". It may also be a list of configurations, or make one or several: a function, async or not,
    or an async context manager function that yields them. Each may take the connection as its parameter.

    \b
      natsery run calc
      natsery run shop.services:calc --workers 4
      natsery run calc.py --reload --embedded-server

    The first Ctrl-C or SIGTERM drains: no more requests are taken, those accepted are finished within the grace. The second
    one answers them with 503. SIGHUP drains, too; with workers and without a terminal it exchanges the workers, one after
    another, and loses no request. The exit status is 0 when all was drained, 1 when something had to be cut off or a worker was
    given up, 2 when the configuration cannot be loaded, 3 without a server, and 130 or 143 after a second signal.
    """  # noqa: D301  # click needs the character that \\b stands for
    if not grace >= 0:  # nor is NaN
        raise natsery.ConfigError("--grace", grace, "must be a number of seconds, 0 or more")
    if watchdog is not None and not 0 < watchdog < math.inf:
        raise natsery.ConfigError("--watchdog", watchdog, "must be a number of seconds, more than 0")
    if watchdog is not None and embedded_server and workers is None and not reload:
        # The process ends too abruptly to end its server.
        raise click.UsageError("--watchdog with --embedded-server needs --workers or --reload.")
    if max_requests is not None and workers is None and worker is None:
        raise click.UsageError("--max-requests exchanges workers; add --workers N.")
    if max_requests_jitter is not None and max_requests is None:
        raise click.UsageError("--max-requests-jitter adds to --max-requests; give that as well.")
    chosen, options = _event_loop(backend, uvloop=uvloop)
    run_async(settings.check)  # before workers are started or the module is imported
    if reload:
        check_installed()
    if worker is None and (workers is not None or reload):
        if sys.platform == "win32":
            raise CommandError("--workers and --reload need signals and sessions, which Windows lacks")
        command = [sys.executable, "-m", "natsery", "run", target, "--grace", str(grace), "--backend", chosen]
        command += ["--uvloop"] * uvloop
        command += [] if watchdog is None else ["--watchdog", str(watchdog)]
        command += [] if max_requests is None else ["--max-requests", str(max_requests)]
        command += [] if max_requests_jitter is None else ["--max-requests-jitter", str(max_requests_jitter)]
        command += ["--worker"]

        async def supervise(settings: Settings, signals: AsyncIterator[signal.Signals]) -> Exit:
            return await Supervisor(command, workers=workers, grace=grace, reload=reload).run(settings, signals)

        return run_async(_main, settings, supervise, embedded_server)
    # Before the module is loaded: processes that it starts must not inherit the channel to the supervisor as their stdin.
    with nullcontext() if worker is None else channel_on_stdin() as channel:
        loaded = load(target)

        @asynccontextmanager
        async def open_configs(nc: natsery.abc.Connection) -> AsyncIterator[list[natsery.ServiceConfig]]:
            async with loaded.open(nc) as configs:
                yield [_override(config, settings, worker) for config in configs]

        label = f"worker {worker}: " if worker else ""
        show_log(label)
        loop = "asyncio with uvloop" if uvloop else chosen
        is_described = worker in (None, 0, 1)

        async def work(settings: Settings, signals: AsyncIterator[signal.Signals]) -> Exit:
            worker = Worker(
                open_configs,
                name=loaded.client_name,
                grace=grace,
                loop=loop,
                label=label,
                channel=channel,
                is_described=is_described,
                watchdog=watchdog,
                request_limit=RequestLimit(max_requests, max_requests_jitter or 0) if max_requests else None,
            )
            return await worker.run(settings, signals)

        try:
            return run_async(_main, settings, work, embedded_server, backend=chosen, backend_options=options)
        except click.ClickException:
            raise
        except ProgramError as error:
            raise user_error(target, error.__cause__ or error, Exit.FAILED) from error
        # From a handler, for example. The status of a SystemExit would have another meaning here.
        except (Exception, SystemExit, BaseExceptionGroup) as error:
            raise user_error(target, error, Exit.FAILED) from error


def _event_loop(backend: str | None, *, uvloop: bool) -> tuple[str, dict[str, Any]]:
    if not uvloop:
        return backend or "trio", {}
    if backend == "trio":
        raise click.UsageError("--uvloop is for asyncio; leave out --backend trio.")
    if importlib.util.find_spec("uvloop") is None:
        raise CommandError("--uvloop needs uvloop; run: pip install 'natsery[uvloop]'")
    return "asyncio", {"use_uvloop": True}


def _override(config: natsery.ServiceConfig, settings: Settings, worker: int | None) -> natsery.ServiceConfig:
    """Return the configuration with the command line's options."""
    if settings.prefix != DEFAULT_PREFIX:
        config = replace(config, prefix=settings.prefix)
    if worker and config.id is not None:
        config = replace(config, id=f"{config.id}-{worker}")  # no two instances may have the same one
    return config


def _stop_signals() -> list[signal.Signals]:
    """Return the signals that end the command: SIGINT, SIGTERM, and SIGHUP unless it is ignored, as under ``nohup``."""
    hangup = [signal.SIGHUP] if hasattr(signal, "SIGHUP") else []  # Windows lacks it
    return [signal.SIGINT, signal.SIGTERM, *(each for each in hangup if signal.getsignal(each) is not signal.SIG_IGN)]


async def _main(settings: Settings, main: Main, embedded_server: bool) -> Exit:
    with anyio.open_signal_receiver(*_stop_signals()) as signals:
        if not embedded_server:
            return await main(settings, signals)
        async with open_server() as server:
            print_status(f"nats-server at {server.url} until the end")
            return await main(Settings(servers=(server.url,), prefix=settings.prefix), signals)
