"""The ``natsery`` command and its subcommands."""

from __future__ import annotations

import click

from ._asking._listing import info, ls, ping
from ._asking._request import request
from ._asking._stats import stats
from ._completion import completion
from ._demo import demo
from ._run._command import run
from ._server import server
from ._top._command import top

HELP = {"help_option_names": ["-h", "--help"]}


@click.group(
    context_settings=HELP,
    epilog="Exit status: 0 well, 1 failed, 2 wrong usage, 3 no server, 4 nobody answers, 5 too late.",
)
@click.version_option(package_name="natsery")
def cli() -> None:
    """Find, watch, call and run NATS services (ADR-32)."""


for command in (ls, ping, info, stats, top, request, run, server, demo, completion):
    cli.add_command(command)
