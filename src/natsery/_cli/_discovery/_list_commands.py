"""``natsery ls``, ``ping`` and ``info``: which services there are."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import anyio
import click

from ..._client._collection import EndReason
from ..._client._service_client import ServiceClient
from ..._responses import ServiceInfo
from .._connection_options._help import ConnectingCommand
from .._connection_options._server_check import check_server
from .._connection_options._settings import Settings, connection_options
from .._exit_codes import Exit
from .._format import format_duration
from .._output import Column, say, show_json, show_table
from .._runner import run_async
from ._question import Question, ask, finish, json_option, question_options, show_replies


@click.command(cls=ConnectingCommand)
@question_options
@json_option
@connection_options
def ls(settings: Settings, question: Question, *, as_json: bool) -> Exit:
    """List the services, or the instances of the service NAME."""
    infos = run_async(ask, settings, "INFO", question)
    if as_json:
        show_replies(infos)
    elif infos:
        _show_services(infos) if question.name is None else _show_instances(infos)
    return finish(infos, len(infos), question)


def _show_services(infos: Sequence[ServiceInfo]) -> None:
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
            Column("Service", style="bold cyan"),
            Column("Version"),
            Column("Instances", right=True),
            Column("Endpoints", right=True),
            Column("Description"),
        ),
        rows,
    )


def _show_instances(infos: Sequence[ServiceInfo]) -> None:
    show_table(
        (
            Column("Service", style="bold cyan"),
            Column("Version"),
            Column("Instance", whole=True),
            Column("Endpoints", right=True),
            Column("Metadata"),
        ),
        [(each.name, each.version, each.id, str(len(each.endpoints)), _metadata_text(each.metadata)) for each in infos],
    )


@click.command(cls=ConnectingCommand)
@question_options
@json_option
@connection_options
def ping(settings: Settings, question: Question, *, as_json: bool) -> Exit:
    """Ask who is there, and show how long each answer took.

    Asks all services, those with a NAME, or the instance of it with an ID.
    """
    return run_async(_ping, settings, question, as_json)


async def _ping(settings: Settings, question: Question, as_json: bool) -> Exit:
    async with settings.connect("natsery ping") as nc:
        client = ServiceClient(nc, prefix=settings.prefix)
        begun = anyio.current_time()
        async with client.discover("PING", **question.arguments()) as replies:
            found = [(each, round((anyio.current_time() - begun) * 1e9)) async for each in replies]
        if not found and replies.ended is not EndReason.NO_RESPONDERS:
            await check_server(nc)
    if as_json:
        show_json([{**each.to_dict(), "rtt": nanoseconds} for each, nanoseconds in found])
    elif found:
        show_table(
            (
                Column("Service", style="bold cyan"),
                Column("Version"),
                Column("Instance", whole=True),
                Column("Time", right=True),
            ),
            [(each.name, each.version, each.id, format_duration(nanoseconds)) for each, nanoseconds in found],
        )
    return finish(replies, len(found), question)


@click.command(cls=ConnectingCommand, short_help="Show what services are and offer.")
@question_options
@json_option
@connection_options
def info(settings: Settings, question: Question, *, as_json: bool) -> Exit:
    """Show what services are and offer: endpoints, subjects, metadata.

    Asks all services, those with a NAME, or the instance of it with an ID.
    """
    infos = run_async(ask, settings, "INFO", question)
    if as_json:
        show_replies(infos)
    else:
        for index, each in enumerate(infos):
            if index:
                say()
            _show_info(each)
    return finish(infos, len(infos), question)


def _show_info(info: ServiceInfo) -> None:
    say(f"{info.name} {info.version}")
    say(f"  Instance     {info.id}")
    if info.description:
        say(f"  Description  {info.description}")
    if info.metadata:
        say(f"  Metadata     {_metadata_text(info.metadata)}")
    if not info.endpoints:
        say("  No endpoints")
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
