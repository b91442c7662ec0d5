"""``natsery schema``: prints the types of a service's endpoints."""

from __future__ import annotations

import json
from contextlib import suppress

import anyio
import click

import natsery

from .._argument_checks import check_id, check_name
from .._connection_options._help import ConnectingCommand
from .._connection_options._server_check import check_server
from .._connection_options._settings import Settings, connection_options
from .._discovery._query import no_answer
from .._exit_codes import CommandError, Exit
from .._output import show_json_text
from .._runner import run_async
from ._asyncapi import asyncapi_document


@click.command(cls=ConnectingCommand, short_help="Print what endpoints take and answer.")
@click.argument("name")
@click.option("--id", "instance_id", metavar="ID", help="Ask this instance; any of them if left out.")
@click.option("--endpoint", metavar="NAME", help="Show this endpoint only, given by its name or its whole subject.")
@click.option("--asyncapi", "as_asyncapi", is_flag=True, help="Print an AsyncAPI 3.0 document.")
@click.option("--json", "as_json", is_flag=True, help="Print the JSON on one line.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for the answer.",
)
@connection_options
def schema(
    settings: Settings,
    name: str,
    instance_id: str | None,
    endpoint: str | None,
    timeout: float,
    *,
    as_asyncapi: bool,
    as_json: bool,
) -> Exit:
    """Print the JSON Schemas of the service NAME: what its endpoints take and answer.

    The service has to serve them: natsery.ServiceConfig(schemas=True).
    """
    check_name("NAME", name)
    if instance_id is not None:
        check_id("--id", instance_id)
    found = run_async(_ask, settings, name, instance_id, endpoint, timeout)
    if as_asyncapi:
        text = json.dumps(asyncapi_document(found), ensure_ascii=False)
    else:
        text = found.raw or found.to_json().decode()
    show_json_text(text, compact=as_json)
    return Exit.OK


async def _ask(
    settings: Settings, name: str, instance_id: str | None, endpoint: str | None, timeout: float
) -> natsery.ServiceSchema:
    async with settings.connect("natsery schema") as nc:
        client = natsery.ServiceClient(nc, prefix=settings.prefix)
        with suppress(natsery.NoRespondersError), anyio.fail_after(timeout):
            return await client.schema(name, instance_id, endpoint=endpoint)
        await check_server(nc)
    raise CommandError(no_answer(name, instance_id), Exit.NOT_FOUND)
