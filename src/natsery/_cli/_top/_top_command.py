"""``natsery top``: shows live statistics of services."""

from __future__ import annotations

import logging
import math
import os
import signal
import sys

import click

from .._argument_checks import check_name
from .._connection_options._help import ConnectingCommand
from .._connection_options._settings import Settings, connection_options
from .._exit_codes import Exit
from .._runner import run_async
from ._live import watch_live
from ._polling import WatchOptions
from ._snapshots import print_snapshots
from ._view import Level, Sort, View

CONNECTION: dict[str, float] = {"ping_interval": 2.0, "max_reconnect_wait": 2.0}
"""Options of its connection, so that the screen soon shows that the server is disconnected, or connected again."""


@click.command(cls=ConnectingCommand)
@click.argument("name", required=False)
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between two updates, at least 0.1.",
)
@click.option(
    "--sort",
    type=click.Choice([*map(str, Sort)]),
    default=str(Sort.REQUESTS),
    show_default=True,
    help="What to sort by.",
)
@click.option(
    "--level",
    type=click.Choice([*map(str, Level)]),
    default=str(Level.SERVICES),
    show_default=True,
    help="What to show below services: nothing, their instances, their endpoints, or both.",
)
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="Quit after N intervals.")
@click.option("--once", is_flag=True, help="Print one table after one interval, also on a terminal.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object per interval, each on one line.")
@connection_options
def top(
    settings: Settings,
    *,
    name: str | None,
    interval: float,
    sort: str,
    level: str,
    count: int | None,
    once: bool,
    as_json: bool,
) -> Exit:
    """Show live statistics of all services, or of those with a NAME.

    Shows requests and errors per second and the mean time of a request, measured over each interval. Keys sort, scroll and
    change the level; '?' lists them, and 'q' quits. If stdout is not a terminal, one table is printed after one interval.
    """
    if name is not None:
        check_name("NAME", name)
    if not math.isfinite(interval):
        raise click.BadParameter("must be a number of seconds", param_hint="--interval")
    is_live = not (once or as_json) and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    if once or (count is None and not is_live and not as_json):
        count = 1
    view = View(sort=Sort(sort), level=Level(level))
    options = WatchOptions(name=name, prefix=settings.prefix, interval=interval, count=count, view=view)
    # Log records would be written across the screen, which shows the important ones itself.
    logger = logging.getLogger("natsery")
    was_disabled, logger.disabled = logger.disabled, True
    try:
        status, ended_by = run_async(_top, settings, options, is_live, as_json)
    finally:
        logger.disabled = was_disabled
    if ended_by is not None:
        # With the signal's own effect, so that the parent process sees how this one ended.
        signal.raise_signal(ended_by)
    return status


async def _top(settings: Settings, options: WatchOptions, is_live: bool, as_json: bool) -> tuple[Exit, int | None]:
    async with settings.connect("natsery top", **CONNECTION) as nc:
        if is_live:
            return Exit.OK, await watch_live(nc, options)
        return await print_snapshots(nc, options, as_json=as_json), None
