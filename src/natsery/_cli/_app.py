"""The ``natsery`` command and its subcommands, each of which is imported when it is wanted."""

from __future__ import annotations

from importlib import import_module
from typing import Final, final

import click

import natsery

HELP: Final = {"help_option_names": ["-h", "--help"]}

COMMANDS: Final = {
    "ls": "_discovery._list_commands",
    "ping": "_discovery._list_commands",
    "info": "_discovery._list_commands",
    "stats": "_discovery._stats_command",
    "top": "_top._top_command",
    "export": "_export._export_command",
    "request": "_discovery._request_command",
    "schema": "_schema._schema_command",
    "probe": "_probe_command",
    "run": "_run._run_command",
    "server": "_server_command",
    "demo": "_demo_command",
    "completion": "_completion_command",
}
"""The module of each subcommand, below this package."""


@final
class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's parameter
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS and cmd_name not in self.commands:
            module = import_module(f".{COMMANDS[cmd_name]}", __package__)
            self.add_command(getattr(module, cmd_name))
        return super().get_command(ctx, cmd_name)


@click.group(
    cls=_Commands,
    context_settings=HELP,
    epilog="Exit status: 0 success, 1 failure, 2 wrong usage, 3 no server, 4 no service, 5 no answer in time.",
)
@click.version_option(natsery.__version__, message=f"%(prog)s, version %(version)s ({natsery.CORE} core)")
def cli() -> None:
    """Find, watch, call and run NATS services (ADR-32)."""
