"""``--endpoint``: shows one endpoint of each service, and no other."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, TypeVar

import click

import natsery

from .._exit_codes import CommandError, Exit

ReplyT = TypeVar("ReplyT", natsery.ServiceInfo, natsery.ServiceStats)

endpoint_option = click.option(
    "--endpoint", metavar="NAME", help="Show this endpoint only, given by its name or its whole subject."
)


def those_with(endpoint: str | None, replies: natsery.Replies[ReplyT]) -> natsery.Replies[ReplyT]:
    """Return the replies of those that have an endpoint; all for ``None``.

    Raises:
        CommandError: there are replies, and none has it.
    """
    if endpoint is None or not replies:
        return replies
    found = tuple(reply for reply in replies if only(endpoint, reply).endpoints)
    if not found:
        names = dict.fromkeys(each.name for reply in replies for each in reply.endpoints)
        raise CommandError(f"no endpoint {endpoint!r}; there is {', '.join(names) or 'none'}", Exit.NOT_FOUND)
    return replace(replies, items=found)


def only(endpoint: str | None, reply: ReplyT) -> ReplyT:
    """Return a reply with one endpoint alone; as it is for ``None``."""
    if endpoint is None:
        return reply
    return replace(reply, endpoints=tuple(each for each in reply.endpoints if endpoint in (each.name, each.subject)))


def raw_with_only(endpoint: str, raw: str) -> str:
    """Return the JSON text of a reply with one endpoint alone; as it is if its endpoints cannot be told apart."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return raw
    endpoints = value.get("endpoints")
    if isinstance(endpoints, list):
        value["endpoints"] = [each for each in endpoints if _is(each, endpoint)]
    return json.dumps(value)


def _is(value: Any, endpoint: str) -> bool:
    return isinstance(value, dict) and endpoint in (value.get("name"), value.get("subject"))
