"""What the commands that ask services have in common: how long they listen, and what they say when something is amiss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import wraps
from typing import Any, TypeVar, final

import click

from ..._adr32 import instance_id_rule, name_rule
from ..._checks import check_config
from ..._client._collection import EndReason
from ..._client._replies import Replies, ReplyStream
from ..._client._service_client import DEFAULT_STALL, DEFAULT_WAIT, ServiceClient
from ..._errors import MalformedReplyError
from ..._responses import ServicePing
from .._connection_options._server_check import check_server
from .._connection_options._settings import Settings
from .._exit_codes import Exit
from .._output import complain, show_json

Command = TypeVar("Command", bound=Callable[..., Any])
S = TypeVar("S", bound=ServicePing)

MAX_WARNINGS = 3
"""Replies that cannot be read of which each gets a line."""


@final
@dataclass(frozen=True, kw_only=True)
class Question:
    """Who is asked, and how long answers are waited for; the arguments of the client's ``ping``, ``info`` and ``stats``."""

    name: str | None
    id: str | None
    wait: float
    stall: float
    count: int | None

    def arguments(self) -> dict[str, Any]:
        """The same as keyword arguments."""
        return asdict(self)


def question_options(command: Command) -> Command:
    """Give a command whom to ask and how long to listen; it gets them as one argument, ``question``."""

    @wraps(command)
    def with_question(**arguments: Any) -> Any:
        question = Question(**{each.name: arguments.pop(each.name) for each in fields(Question)})
        if question.name is not None:
            check_config("NAME", question.name, name_rule)
        if question.id is not None:
            check_config("id", question.id, instance_id_rule)
        return command(question=question, **arguments)

    result: Any = with_question
    for decorate in reversed(
        (
            click.argument("name", required=False),
            click.argument("id", required=False),
            click.option(
                "--wait",
                type=click.FloatRange(min=0, min_open=True),
                default=DEFAULT_WAIT,
                show_default=True,
                metavar="SECONDS",
                help="How long to wait for answers at most.",
            ),
            click.option(
                "--stall",
                type=click.FloatRange(min=0, min_open=True),
                default=DEFAULT_STALL,
                show_default=True,
                metavar="SECONDS",
                help="Stop when nothing has come for so long since the last answer.",
            ),
            click.option("--count", type=click.IntRange(min=1), metavar="N", help="Stop after N answers."),
        )
    ):
        result = decorate(result)
    return result  # type: ignore[no-any-return]  # click's decorators return what they are given


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


async def ask(settings: Settings, verb: str, question: Question) -> Replies[Any]:
    """Connect, ask, and return what services answered, by name, version and id."""
    async with settings.connect(f"natsery {verb.lower()}") as nc:
        client = ServiceClient(nc, prefix=settings.prefix)
        call: Any = {"PING": client.ping, "INFO": client.info, "STATS": client.stats}[verb]
        replies: Replies[Any] = await call(**question.arguments())
        if not replies and replies.ended is not EndReason.NO_RESPONDERS:
            await check_server(nc)
    return replies.sorted(key=lambda each: (each.name, each.version, each.id))


def warn_of(malformed: Sequence[MalformedReplyError]) -> None:
    """Say which replies could not be read."""
    for error in malformed[:MAX_WARNINGS]:
        complain(f"Warning: a reply was skipped: {error}")
    if len(malformed) > MAX_WARNINGS:
        complain(f"Warning: {len(malformed) - MAX_WARNINGS} more replies were skipped")


def finish(replies: Replies[Any] | ReplyStream[Any], found: int, question: Question) -> Exit:
    """Say what was amiss; the command's exit status."""
    warn_of(replies.malformed)
    if found:
        return Exit.OK
    complain(f"Error: {_whom(question)} answered")
    return Exit.NOBODY


def _whom(question: Question) -> str:
    """Who did not answer."""
    if question.id is not None:
        return f"no instance {question.id} of {question.name}"
    return "no service" if question.name is None else f"no service {question.name}"


def show_replies(replies: Replies[Any]) -> None:
    """Print replies as they are, as a JSON array."""
    show_json([each.to_dict() for each in replies])
