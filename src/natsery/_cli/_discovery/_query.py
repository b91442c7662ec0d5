"""What the discovery commands share: their arguments, the request, and what they print about failures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import wraps
from typing import Any, TypeVar, final

import click

import natsery

from .._argument_checks import SECONDS, check_id, check_name
from .._connection_options._server_check import check_server
from .._connection_options._settings import Settings
from .._exit_codes import Exit
from .._format import pluralize
from .._output import print_error, show_json_array
from ._one_endpoint import raw_with_only

Command = TypeVar("Command", bound=Callable[..., Any])

MAX_REPLIES = 65_536
"""How many replies are kept; `natsery.Replies` keeps as many."""

MAX_CHARACTERS = 64 * 1024 * 1024
"""The same in characters."""

MAX_WARNINGS = 3
"""How many malformed replies get a warning each."""


@final
@dataclass(frozen=True, kw_only=True)
class Query:
    """The arguments of ``ping``, ``info`` and ``stats`` of `natsery.ServiceClient`; see there."""

    name: str | None
    id: str | None
    wait: float
    stall: float
    count: int | None

    def arguments(self) -> dict[str, Any]:
        """Return them as keyword arguments."""
        return asdict(self)


def query_options(command: Command) -> Command:
    """Add the arguments and options of a query to a command, which gets them as one argument, ``query``."""

    @wraps(command)
    def with_query(**arguments: Any) -> Any:
        query = Query(**{each.name: arguments.pop(each.name) for each in fields(Query)})
        if query.name is not None:
            check_name("NAME", query.name)
        if query.id is not None:
            check_id("ID", query.id)
        return command(query=query, **arguments)

    result: Any = with_query
    for decorate in reversed(
        (
            click.argument("name", required=False),
            click.argument("id", required=False),
            click.option(
                "--wait",
                type=SECONDS,
                default=2.0,
                show_default=True,
                metavar="SECONDS",
                help="How long to wait for answers at most.",
            ),
            click.option(
                "--stall",
                type=SECONDS,
                default=0.5,
                show_default=True,
                metavar="SECONDS",
                help="Stop when no answer has come for this long since the last one.",
            ),
            click.option("--count", type=click.IntRange(min=1), metavar="N", help="Stop after N answers."),
        )
    ):
        result = decorate(result)
    return result  # type: ignore[no-any-return]  # click's decorators return what they decorate


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


async def run_query(settings: Settings, verb: str, query: Query) -> natsery.Replies[Any]:
    """Connect, send the query, and return the replies, sorted by name, version and id."""
    async with settings.connect(f"natsery {verb.lower()}") as nc:
        client = natsery.ServiceClient(nc, prefix=settings.prefix)
        call: Any = {"PING": client.ping, "INFO": client.info, "STATS": client.stats}[verb]
        replies: natsery.Replies[Any] = await call(**query.arguments())
        if not replies and replies.ended is not natsery.EndReason.NO_RESPONDERS:
            await check_server(nc)
    return replies.sorted(key=lambda each: (each.name, each.version, each.id))


def warn_about(malformed: Sequence[natsery.MalformedReplyError]) -> None:
    """Print warnings about replies that could not be read."""
    for error in malformed[:MAX_WARNINGS]:
        print_error(f"Warning: a reply was skipped: {error}")
    if len(malformed) > MAX_WARNINGS:
        print_error(f"Warning: {len(malformed) - MAX_WARNINGS} more replies were skipped")


def warn_about_number(replies: natsery.Replies[Any] | natsery.ReplyStream[Any], more: int) -> None:
    """Print warnings about instances that answered more than once, and about replies that were too many, ``more`` included."""
    if replies.repeated:
        several = {(each.name, each.id) for each in replies.repeated}
        if len(several) == 1:
            (first, *_) = replies.repeated
            text = f"instance {first.id} of {first.name} answered more than once and counts once"
        else:
            text = f"{pluralize(len(several), 'instance')} answered more than once and count once"
        print_error(f"Warning: {text}")
    if dropped := replies.dropped + more:
        print_error(f"Warning: {pluralize(dropped, 'reply', 'replies')} dropped: too many, or too fast")


def finish(
    replies: natsery.Replies[Any] | natsery.ReplyStream[Any], found: int, query: Query, *, more: int = 0
) -> Exit:
    """Print warnings and errors about the replies, ``more`` that were not kept included, and return the exit status."""
    warn_about(replies.malformed)
    warn_about_number(replies, more)
    if found:
        return Exit.OK
    print_error(f"Error: {no_answer(query.name, query.id)}")
    return Exit.NOT_FOUND


def no_answer(name: str | None, instance_id: str | None) -> str:
    """Return the text of the error that no such service answered."""
    if instance_id is not None:
        return f"no instance {instance_id} of {name} answered"
    return "no service answered" if name is None else f"no service {name} answered"


def show_replies(replies: natsery.Replies[Any], endpoint: str | None = None) -> None:
    """Print replies as a JSON array, each as it came, or with one endpoint alone."""
    show_json_array([each.raw if endpoint is None else raw_with_only(endpoint, each.raw) for each in replies])
