"""``natsery top``: what services do at the moment, live."""

from __future__ import annotations

import logging
import math
import os
import signal
import sys

import click

from ..._adr32 import name_rule
from ..._checks import check_config
from .._connection_options._help import ConnectingCommand
from .._connection_options._settings import Settings, connection_options
from .._exit_codes import Exit
from .._runner import run_async
from ._live import watch_live
from ._polling import Watch
from ._snapshots import print_snapshots
from ._view import Level, Sort, View

CONNECTION: dict[str, float] = {"ping_interval": 2.0, "max_reconnect_wait": 2.0}
"""Options of its connection: a person looks on, and is to see soon that the server is away, or back."""


@click.command(cls=ConnectingCommand)
@click.argument("name", required=False)
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between two screens, 0.1 at least.",
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
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="Leave after N intervals.")
@click.option("--once", is_flag=True, help="Print one table after one interval, also on a terminal.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object on a line of its own for each interval.")
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
    """Watch what all services, or those of a NAME, are doing.

    Shows requests and errors per second and the mean time of a request, measured over each interval. Keys sort, scroll and
    unfold; '?' lists them, and 'q' leaves. Where the output is no terminal, one table is printed after one interval.
    """
    if name is not None:
        check_config("NAME", name, name_rule)
    if not math.isfinite(interval):
        raise click.BadParameter("must be a number of seconds", param_hint="--interval")
    is_live = not (once or as_json) and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    if once or (count is None and not is_live and not as_json):
        count = 1
    view = View(sort=Sort(sort), level=Level(level))
    watch = Watch(name=name, prefix=settings.prefix, interval=interval, count=count, view=view)
    # Warnings of the connection would be written across the screen; what matters of them is shown there.
    logger = logging.getLogger("natsery")
    was_disabled, logger.disabled = logger.disabled, True
    try:
        status, ended_by = run_async(_top, settings, watch, is_live, as_json)
    finally:
        logger.disabled = was_disabled
    if ended_by is not None:
        # So that whoever sent the signal sees that it did what it does.
        signal.raise_signal(ended_by)
    return status


async def _top(settings: Settings, watch: Watch, is_live: bool, as_json: bool) -> tuple[Exit, int | None]:
    async with settings.connect("natsery top", **CONNECTION) as nc:
        if is_live:
            return Exit.OK, await watch_live(nc, watch)
        return await print_snapshots(nc, watch, as_json=as_json), None
