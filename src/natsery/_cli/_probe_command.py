"""``natsery probe``: asks whether a service is there, for probes that run a command."""

from __future__ import annotations

import click

import natsery

from ._argument_checks import SECONDS, check_id, check_name
from ._connection_options._help import ConnectingCommand
from ._connection_options._server_check import check_server
from ._connection_options._settings import Settings, connection_options
from ._exit_codes import CommandError, Exit
from ._runner import run_async


@click.command(cls=ConnectingCommand, short_help="Check that a service answers.")
@click.argument("name")
@click.argument("id", required=False)
@click.option(
    "--wait", type=SECONDS, default=1.0, show_default=True, metavar="SECONDS", help="How long it may take to answer."
)
@connection_options
def probe(settings: Settings, name: str, id: str | None, wait: float) -> Exit:  # noqa: A002  # as it is shown
    """Check that an instance of the service NAME answers PING: the one with this ID, or any.

    Prints nothing if it does. For the exec probes of Kubernetes and the like: it starts quicker than the other commands.

    \b
      natsery probe calc
      natsery probe calc "$HOSTNAME" --wait 2
    """  # noqa: D301  # click needs the character that \\b stands for
    check_name("NAME", name)
    if id is not None:
        check_id("ID", id)
    return run_async(_probe, settings, name, id, wait, backend="asyncio")


async def _probe(settings: Settings, name: str, instance: str | None, wait: float) -> Exit:
    async with settings.connect("natsery probe") as nc:
        client = natsery.ServiceClient(nc, prefix=settings.prefix)
        replies = await client.ping(name, instance, wait=wait, stall=None, count=1)
        if replies:
            return Exit.OK
        if replies.ended is not natsery.EndReason.NO_RESPONDERS:
            await check_server(nc)
    what = f"the service {name!r}" if instance is None else f"the instance {instance!r} of the service {name!r}"
    raise CommandError(f"{what} does not answer", Exit.NOT_FOUND)
