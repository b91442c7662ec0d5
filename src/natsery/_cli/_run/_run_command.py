"""``natsery run``: serves the services that a module configures."""

from __future__ import annotations

import importlib.util
import math
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import anyio
import click

import natsery
from natsery.testing import open_server
from natsery_command import INTERRUPTS

from .._connection_options._help import ConnectingCommand
from .._connection_options._settings import DEFAULT_PREFIX, Settings, connection_options
from .._exit_codes import CommandError, Exit
from .._listening import Address, listening, read_address
from .._output import print_status
from .._runner import run_async
from ._channel import channel_on_stdin
from ._health import READY, respond_to_probes
from ._loading import Target, load, user_error
from ._logs import LEVELS, LogOptions
from ._metrics import PATH, check_metrics, check_ports, of_worker, respond_to_scrapes, with_metrics
from ._reloading import check_installed
from ._request_limit import RequestLimit
from ._supervisor import Supervisor
from ._worker import ProgramError, Worker

Main: TypeAlias = Callable[[Settings, AsyncIterator[signal.Signals]], Awaitable[Exit]]
"""The function that runs in the event loop, with the connection settings and the signals that arrive."""


@click.command(cls=ConnectingCommand)
@click.argument("target", metavar="MODULE[:CONFIG]")
@click.option(
    "--backend",
    type=click.Choice(["trio", "asyncio"]),
    help="The event loop. [default: that which the ServiceConfig names, or trio]",
)
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
    "--metrics",
    type=read_address,
    metavar="[HOST:]PORT",
    help="Answer Prometheus at http://HOST:PORT/metrics; each further worker at the next port. HOST is 127.0.0.1 if left out.",
)
@click.option(
    "--health",
    type=read_address,
    metavar="[HOST:]PORT",
    help="Answer probes at http://HOST:PORT/live and /ready. HOST is 127.0.0.1 if left out; all addresses with :PORT.",
)
@click.option("--wait-for-server", "waits", is_flag=True, help="Wait for a server that is not up yet.")
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
@click.option("--log-level", type=click.Choice(LEVELS, case_sensitive=False), help="What is logged. [default: info]")
@click.option("--log-config", metavar="FILE", help="Configure logging by this file: JSON, TOML or INI.")
@click.option("--log-format", type=click.Choice(["text", "json"]), help="Lines of text, or a JSON object for each.")
@click.option("--embedded-server", is_flag=True, help="Start a nats-server for it, for development.")
@click.option("--worker", type=int, hidden=True)  # for a supervisor, which starts its workers with it
@connection_options
def run(
    settings: Settings,
    target: str,
    backend: str | None,
    workers: int | None,
    grace: float,
    metrics: Address | None,
    health: Address | None,
    watchdog: float | None,
    max_requests: int | None,
    max_requests_jitter: int | None,
    log_level: str | None,
    log_config: str | None,
    log_format: str | None,
    worker: int | None,
    *,
    waits: bool,
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
    one answers them with 503. SIGHUP has workers exchanged one after another, without a request lost. The exit status is 0
    when all was drained, 1 when something had to be cut off or a worker was given up, 2 when the configuration cannot be
    loaded, 3 without a server, and 130 or 143 after a second signal.
    """  # noqa: D301  # click needs the character that \\b stands for
    if not grace >= 0:  # nor is NaN
        raise natsery.ConfigError("--grace", grace, "must be a number of seconds, 0 or more")
    options = RunOptions(
        target,
        backend=backend,
        uvloop=uvloop,
        grace=grace,
        metrics=metrics,
        health=health,
        waits=waits,
        watchdog=watchdog,
        max_requests=max_requests,
        max_requests_jitter=max_requests_jitter,
        logs=LogOptions(log_level, log_config, as_json=log_format == "json"),
    )
    if uvloop:
        _check_uvloop(backend)
    if watchdog is not None and not 0 < watchdog < math.inf:
        raise natsery.ConfigError("--watchdog", watchdog, "must be a number of seconds, more than 0")
    if watchdog is not None and embedded_server and workers is None and not reload:
        # The process ends too abruptly to end its server.
        raise click.UsageError("--watchdog with --embedded-server needs --workers or --reload.")
    if max_requests is not None and workers is None and worker is None:
        raise click.UsageError("--max-requests exchanges workers; add --workers N.")
    if max_requests_jitter is not None and max_requests is None:
        raise click.UsageError("--max-requests-jitter adds to --max-requests; give that as well.")
    run_async(settings.check)  # before workers are started or the module is imported
    if reload:
        check_installed()
    if metrics is not None:
        check_metrics(metrics, workers or 1)
    is_supervisor = worker is None and (workers is not None or reload)
    label = f"worker {worker}: " if worker else ""
    with options.logs.applied(label):
        if is_supervisor:
            return _supervise(settings, options, workers, reload=reload, embedded_server=embedded_server)
        return _serve(settings, options, worker, label, embedded_server=embedded_server)


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What the command line says, but for what concerns a supervisor alone."""

    target: str = field(kw_only=False)
    backend: str | None
    uvloop: bool
    grace: float
    metrics: Address | None
    health: Address | None
    waits: bool
    watchdog: float | None
    max_requests: int | None
    max_requests_jitter: int | None
    logs: LogOptions

    def request_limit(self) -> RequestLimit | None:
        """Return after how many requests a worker is exchanged."""
        return None if self.max_requests is None else RequestLimit(self.max_requests, self.max_requests_jitter or 0)

    def worker_command(self) -> list[str]:
        """Return the command of a supervisor's worker, which the worker's number follows."""
        given: dict[str, object] = {
            "--backend": self.backend,
            "--metrics": self.metrics,
            "--watchdog": self.watchdog,
            "--max-requests": self.max_requests,
            "--max-requests-jitter": self.max_requests_jitter,
        }
        return [
            *(sys.executable, "-m", "natsery", "run", self.target, "--grace", str(self.grace)),
            *(word for option, value in given.items() if value is not None for word in (option, str(value))),
            *(["--uvloop"] if self.uvloop else []),
            *(["--wait-for-server"] if self.waits else []),
            *self.logs.arguments(),
            "--worker",
        ]


def _supervise(
    settings: Settings, options: RunOptions, workers: int | None, *, reload: bool, embedded_server: bool
) -> Exit:
    """Run workers in processes of their own."""
    if sys.platform == "win32":
        raise CommandError("--workers and --reload need signals and sessions, which Windows lacks")
    supervisor = Supervisor(options.worker_command(), workers=workers, grace=options.grace, reload=reload)

    async def supervise(settings: Settings, signals: AsyncIterator[signal.Signals]) -> Exit:
        if options.metrics is not None:
            await check_ports(options.metrics, workers or 1)
        async with _answering_probes(options.health, supervisor.why_not_ready):
            return await supervisor.run(settings, signals)

    return run_async(_main, settings, supervise, embedded_server)


def _serve(settings: Settings, options: RunOptions, number: int | None, label: str, *, embedded_server: bool) -> Exit:
    """Serve in this process, which is a supervisor's worker if it has a number."""
    # Before the module is loaded: processes that it starts must not inherit the channel to the supervisor as their stdin.
    with nullcontext() if number is None else channel_on_stdin() as channel:
        loaded = load(options.target)
        INTERRUPTS.check()
        options.logs.show(label)
        backend = _choose_backend(options, loaded)

        @asynccontextmanager
        async def open_configs(nc: natsery.abc.Connection) -> AsyncIterator[list[natsery.ServiceConfig]]:
            async with loaded.open(nc) as configs:
                overridden = [_override(config, settings, number) for config in configs]
                yield overridden if options.metrics is None else with_metrics(overridden)

        async def serve(settings: Settings, signals: AsyncIterator[signal.Signals]) -> Exit:
            worker = Worker(
                open_configs,
                name=loaded.client_name,
                grace=options.grace,
                loop="asyncio with uvloop" if options.uvloop else backend,
                label=label,
                channel=channel,
                is_described=number in (None, 0, 1),
                waits=options.waits,
                watchdog=options.watchdog,
                request_limit=options.request_limit(),
            )
            async with (
                _answering_scrapes(options.metrics, number, label),
                _answering_probes(options.health, worker.why_not_ready),
            ):
                return await worker.run(settings, signals)

        try:
            return run_async(
                _main,
                settings,
                serve,
                embedded_server,
                backend=backend,
                backend_options={"use_uvloop": True} if options.uvloop else {},
            )
        except click.ClickException:
            raise
        except ProgramError as error:
            raise user_error(options.target, error.__cause__ or error, Exit.FAILED) from error
        # From a handler, for example. The status of a SystemExit would have another meaning here.
        except (Exception, SystemExit, BaseExceptionGroup) as error:
            raise user_error(options.target, error, Exit.FAILED) from error


@asynccontextmanager
async def _answering_probes(address: Address | None, why_not_ready: Callable[[], str]) -> AsyncIterator[None]:
    if address is None:
        yield
        return
    async with listening("--health", address, respond_to_probes(why_not_ready)) as there:
        print_status(f"health at {there.url(READY)}")
        yield


@asynccontextmanager
async def _answering_scrapes(address: Address | None, number: int | None, label: str) -> AsyncIterator[None]:
    if address is None:
        yield
        return
    # A worker and the one that takes its place share a port for a while.
    there = of_worker(address, number or 0)
    async with listening("--metrics", there, respond_to_scrapes(), reuse_port=number is not None) as there:
        print_status(f"{label}metrics at {there.url(PATH)}")
        yield


def _check_uvloop(backend: str | None) -> None:
    if backend == "trio":
        raise click.UsageError("--uvloop is for asyncio; leave out --backend trio.")
    if importlib.util.find_spec("uvloop") is None:
        raise CommandError("--uvloop needs uvloop; run: pip install 'natsery[uvloop]'")


def _choose_backend(options: RunOptions, loaded: Target) -> str:
    """Return the event loop: that of the command line, or that which the configurations name."""
    given = "asyncio" if options.uvloop else options.backend
    for config in loaded.known_configs:
        if config.backend is None or config.backend == given:
            continue
        if given is not None:
            raise CommandError(
                f"the service {config.name!r} is for {config.backend}, as its ServiceConfig says, and not for {given}",
                Exit.USAGE,
            )
        given = config.backend
    if given == "asyncio" and sys.platform == "win32":
        raise CommandError(
            "natsery run needs trio on Windows, where asyncio takes no signals; have a program of your own call "
            "natsery.serve(…, stop_on_signals=True)",
            Exit.USAGE,
        )
    return given or "trio"


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
