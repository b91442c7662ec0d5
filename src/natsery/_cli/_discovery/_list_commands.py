"""``natsery ls``, ``ping`` and ``info``: show which services there are."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import anyio
import click

import natsery

from .._connection_options._help import ConnectingCommand
from .._connection_options._server_check import check_server
from .._connection_options._settings import Settings, connection_options
from .._exit_codes import Exit
from .._format import format_duration, pluralize
from .._output import Column, print_line, show_json_array, show_table
from .._runner import run_async
from ._one_endpoint import endpoint_option, only, those_with
from ._query import MAX_CHARACTERS, MAX_REPLIES, Query, finish, json_option, query_options, run_query, show_replies


@click.command(cls=ConnectingCommand)
@query_options
@json_option
@connection_options
def ls(settings: Settings, query: Query, *, as_json: bool) -> Exit:
    """List the services, or the instances of the service NAME."""
    infos = run_async(run_query, settings, "INFO", query)
    if as_json:
        show_replies(infos)
    elif infos:
        _show_services(infos) if query.name is None else _show_instances(infos)
    return finish(infos, len(infos), query)


def _show_services(infos: Sequence[natsery.ServiceInfo]) -> None:
    rows = []
    for name, group in groupby(infos, key=lambda each: each.name):
        members = list(group)
        rows.append(
            (
                name,
                ", ".join(dict.fromkeys(each.version for each in members)),
                str(len(members)),
                str(len({(each.name, each.subject) for member in members for each in member.endpoints})),
                next((each.description for each in reversed(members) if each.description), ""),
            )
        )
    show_table(
        (
            Column("Service", whole=True, style="bold cyan"),
            Column("Version"),
            Column("Instances", right=True),
            Column("Endpoints", right=True),
            Column("Description"),
        ),
        rows,
        total=f"{pluralize(len(rows), 'service')}, {pluralize(len(infos), 'instance')}",
    )


def _show_instances(infos: Sequence[natsery.ServiceInfo]) -> None:
    show_table(
        (
            Column("Service", style="bold cyan"),
            Column("Version"),
            Column("Instance", whole=True),
            Column("Endpoints", right=True),
            Column("Metadata"),
        ),
        [(each.name, each.version, each.id, str(len(each.endpoints)), _metadata_text(each.metadata)) for each in infos],
        total=pluralize(len(infos), "instance"),
    )


@click.command(cls=ConnectingCommand)
@query_options
@json_option
@connection_options
def ping(settings: Settings, query: Query, *, as_json: bool) -> Exit:
    """Ping services, and show how long each answer took.

    Asks all services, those with a NAME, or the instance of it with an ID.
    """
    return run_async(_ping, settings, query, as_json)


async def _ping(settings: Settings, query: Query, as_json: bool) -> Exit:
    async with settings.connect("natsery ping") as nc:
        client = natsery.ServiceClient(nc, prefix=settings.prefix)
        start = anyio.current_time()
        found: list[tuple[natsery.ServicePing, int]] = []
        left, more = MAX_CHARACTERS, 0
        async with client.discover("PING", **query.arguments()) as replies:
            while True:
                try:
                    each = await replies.receive()
                except anyio.EndOfStream:
                    break
                except natsery.SlowConsumerError:
                    continue  # the end warns of it
                left -= len(each.raw)
                if len(found) < MAX_REPLIES and left >= 0:
                    found.append((each, round((anyio.current_time() - start) * 1e9)))
                else:
                    more += 1
        if not found and replies.ended is not natsery.EndReason.NO_RESPONDERS:
            await check_server(nc)
    if as_json:
        show_json_array([f'{each.raw.rstrip()[:-1]},"rtt":{nanoseconds}}}' for each, nanoseconds in found])
    elif found:
        show_table(
            (
                Column("Service", style="bold cyan"),
                Column("Version"),
                Column("Instance", whole=True),
                Column("Time", right=True),
            ),
            [(each.name, each.version, each.id, format_duration(nanoseconds)) for each, nanoseconds in found],
            total=pluralize(len(found), "instance"),
        )
    return finish(replies, len(found), query, more=more)


@click.command(cls=ConnectingCommand, short_help="Show what services are and offer.")
@query_options
@endpoint_option
@json_option
@connection_options
def info(settings: Settings, query: Query, endpoint: str | None, *, as_json: bool) -> Exit:
    """Show what services are and offer: endpoints, subjects, metadata.

    Asks all services, those with a NAME, or the instance of it with an ID.
    """
    infos = those_with(endpoint, run_async(run_query, settings, "INFO", query))
    if as_json:
        show_replies(infos, endpoint)
    else:
        for index, each in enumerate(infos):
            if index:
                print_line()
            _show_info(only(endpoint, each))
    return finish(infos, len(infos), query)


def _show_info(info: natsery.ServiceInfo) -> None:
    print_line(f"{info.name} {info.version}")
    print_line(f"  Instance     {info.id}")
    if info.description:
        print_line(f"  Description  {info.description}")
    if info.metadata:
        print_line(f"  Metadata     {_metadata_text(info.metadata)}")
    if not info.endpoints:
        print_line("  No endpoints")
        return
    has_metadata = any(each.metadata for each in info.endpoints)
    show_table(
        (
            Column("  Endpoint", style="cyan"),
            Column("Subject"),
            Column("Queue group"),
            *([Column("Metadata")] if has_metadata else []),
        ),
        [
            (
                f"  {each.name}",
                each.subject,
                each.queue_group or "none",
                *([_metadata_text(each.metadata)] if has_metadata else []),
            )
            for each in info.endpoints
        ],
    )


def _metadata_text(metadata: object) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(dict(metadata).items()))  # type: ignore[call-overload]
