"""A command's help, with the connection options under a separate heading because every command has them."""

from __future__ import annotations

from typing import final

import click


@final
class ConnectionOption(click.Option):
    """An option of the connection."""


@final
class ConnectingCommand(click.Command):
    """A command whose help lists the connection options after the others, under a separate heading."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write both lists of options."""
        own: list[tuple[str, str]] = []
        connection: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and not isinstance(parameter, click.Argument):
                (connection if isinstance(parameter, ConnectionOption) else own).append(record)
        for heading, records in (("Options", own), ("Connection", connection)):
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)
