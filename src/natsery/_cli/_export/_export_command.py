"""``natsery export``: gives the statistics of services to Prometheus."""

from __future__ import annotations

import importlib.util
import math
import sys
from typing import Final

import click

import natsery

from .._connection_options._help import ConnectingCommand
from .._connection_options._settings import Settings, connection_options
from .._discovery._query import Query, finish, query_options
from .._exit_codes import CommandError, Exit
from .._listening import Address, listening, read_address
from .._output import print_line
from .._runner import run_async
from .._stop_signals import until_signal

MAX_SERIES: Final = 30_000
"""Time series of services, unless told otherwise: some ten thousand endpoints."""


@click.command(cls=ConnectingCommand, short_help="Give statistics of services to Prometheus.")
@query_options
@click.option(
    "--listen",
    type=read_address,
    metavar="[HOST:]PORT",
    help="Serve http://HOST:PORT/metrics. HOST is 127.0.0.1 if left out; all addresses with :PORT, a free port with 0.",
)
@click.option("--once", is_flag=True, help="Print the metrics to stdout.")
@click.option(
    "--max-series",
    type=click.IntRange(min=1),
    default=MAX_SERIES,
    show_default=True,
    metavar="N",
    help="How many time series of services there are at most.",
)
@connection_options
def export(settings: Settings, query: Query, *, listen: Address | None, once: bool, max_series: int) -> Exit:
    """Give the statistics of services to Prometheus.

    Asks all services, those with a NAME, or the instance of it with an ID, each time that somebody reads the metrics, but not
    more than once a second. Counters go on when the statistics of a service are reset. Needs natsery[prometheus].

    \b
      natsery export --listen :9100
      natsery export --once
    """  # noqa: D301  # click needs the character that \\b stands for
    if once == (listen is not None):
        raise click.UsageError("Give either --listen [HOST:]PORT or --once.")
    if not math.isfinite(query.wait):  # everybody would wait for one silent server
        raise click.BadParameter("must be a number of seconds", param_hint="--wait")
    if importlib.util.find_spec("prometheus_client") is None:
        raise CommandError("natsery export needs prometheus-client; run: pip install 'natsery[prometheus]'")
    if listen is None:
        return run_async(_print, settings, query, max_series)
    run_async(until_signal, _serve, settings, query, max_series, listen)
    return Exit.OK


async def _print(settings: Settings, query: Query, max_series: int) -> Exit:
    from ._exporter import Exporter

    async with settings.connect("natsery export") as nc:
        exporter = Exporter(nc, query, prefix=settings.prefix, max_series=max_series)
        replies = await exporter.scrape()
    sys.stdout.write(exporter.text)
    sys.stdout.flush()
    return finish(replies, len(replies), query)


async def _serve(settings: Settings, query: Query, max_series: int, address: Address) -> None:
    from ._exporter import PATH, Exporter

    async with settings.connect("natsery export") as nc:
        exporter = Exporter(nc, query, prefix=settings.prefix, max_series=max_series)
        async with listening("--listen", address, exporter.respond) as there:
            print_line(there.url(PATH))
            await nc.wait_closed()
            raise natsery.ConnectionClosedError("the connection is closed")
