"""The ``natsery`` command and its subcommands."""

from __future__ import annotations

import click

import natsery

from ._completion_command import completion
from ._demo_command import demo
from ._discovery._list_commands import info, ls, ping
from ._discovery._request_command import request
from ._discovery._stats_command import stats
from ._export._export_command import export
from ._run._run_command import run
from ._schema._schema_command import schema
from ._server_command import server
from ._top._top_command import top

HELP = {"help_option_names": ["-h", "--help"]}


@click.group(
    context_settings=HELP,
    epilog="Exit status: 0 success, 1 failure, 2 wrong usage, 3 no server, 4 no service, 5 no answer in time.",
)
@click.version_option(natsery.__version__)
def cli() -> None:
    """Find, watch, call and run NATS services (ADR-32)."""


for command in (ls, ping, info, stats, top, export, request, schema, run, server, demo, completion):
    cli.add_command(command)
