"""Subjects and queue groups: what may be one, what a pattern matches, and which reply subjects are never answered."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from ._checks import text_rule

PLAIN_SUBJECT: Final = re.compile(r"[!-)+-\-/-=?-~]+(?:\.[!-)+-\-/-=?-~]+)*")
"""Printable ASCII without blanks and wildcards: nearly every subject, recognised in one step."""

_BLANK_OR_CONTROL = re.compile(r"[\s\x00-\x1f\x7f-\x9f]")


def literal_subject_rule(value: object) -> str | None:
    """A subject without wildcards: one that can be published to."""
    if type(value) is str and PLAIN_SUBJECT.fullmatch(value):
        return None
    if isinstance(value, str) and ("*" in value or ">" in value):
        return "must not contain a wildcard"
    return subject_rule(value)


def subject_rule(value: object) -> str | None:
    """A subject: tokens between dots, none empty, ``*`` as a whole token, ``>`` as the last."""
    if type(value) is str and PLAIN_SUBJECT.fullmatch(value):
        return None
    wrong = text_rule(value)
    if wrong is not None:
        return wrong
    text = str(value)
    if not text:
        return "must not be empty"
    if _BLANK_OR_CONTROL.search(text):
        return "must not contain white space or control characters"
    *others, last = text.split(".")
    if "" in others or not last:
        return "must not contain an empty token (a dot at an edge, or two in a row)"
    if any("*" in token and token != "*" for token in (*others, last)):
        return "may contain '*' only as a whole token"
    if any(">" in token for token in others) or (">" in last and last != ">"):
        return "may contain '>' only as the last token"
    return None


def prefix_rule(value: object) -> str | None:
    """A group's name: a subject prefix without ``>``; empty adds nothing."""
    if value == "":
        return None
    wrong = text_rule(value)
    if wrong is None and ">" in str(value):
        return "must not contain '>'"
    return subject_rule(value)


def reply_prefix_rule(value: object) -> str | None:
    """What subjects begin with, in whole tokens and without wildcards."""
    if isinstance(value, str) and value.endswith(".>"):
        return f"must not contain a wildcard; write {value[:-2]!r}, which stands for all subjects below it"
    return literal_subject_rule(value)


def queue_group_rule(value: object) -> str | None:
    """A queue group's name."""
    wrong = text_rule(value)
    if wrong is not None:
        return wrong
    if not value:
        return "must not be empty; use natsery.NO_QUEUE_GROUP to switch queueing off"
    if _BLANK_OR_CONTROL.search(str(value)):
        return "must not contain white space or control characters"
    return None


def join(prefix: str, name: str) -> str:
    """Return a subject below a prefix; empty parts add nothing."""
    return f"{prefix}.{name}" if prefix and name else prefix or name


def matches(pattern: str, subject: str) -> bool:
    """Whether a subscription to ``pattern`` gets what is published to ``subject``."""
    return tokens_match(pattern.split("."), subject.split("."))


def tokens_match(wanted: Sequence[str], given: Sequence[str]) -> bool:
    """Whether the tokens of a pattern match those of a subject."""
    for index, token in enumerate(wanted):
        if token == ">":
            return len(given) > index
        if index >= len(given) or token not in ("*", given[index]):
            return False
    return len(wanted) == len(given)


def has_wildcard(subject: str) -> bool:
    """Whether a subject that has been checked is a pattern."""
    return "*" in subject or ">" in subject


def covers(pattern: str, narrower: str) -> bool:
    """Whether ``pattern`` matches every subject that ``narrower``, itself a pattern, matches."""
    wanted, given = pattern.split("."), narrower.split(".")
    for index, token in enumerate(wanted):
        if token == ">":
            return len(given) > index
        if index >= len(given) or given[index] == ">" or (token != "*" and token != given[index]):
            return False
    return len(wanted) == len(given)


def is_allowed(allowed: Iterable[str] | None, pattern: str, queue_group: str = "") -> bool:
    """Whether a list of permissions, if there is one, allows this subject in this queue group.

    A permission is a pattern, or a pattern and a queue group with a blank between; the second allows that group alone.
    """
    if allowed is None:
        return True
    for each in allowed:
        subjects, _, group = each.partition(" ")
        if covers(subjects, pattern) and (not group or group == queue_group):
            return True
    return False


def tokens_of_wildcards(pattern: str, subject: str) -> tuple[str, ...]:
    """Return the tokens of a subject that a pattern's wildcards stand for, in order; one for each that ``>`` covers."""
    found: list[str] = []
    tokens = subject.split(".")
    for index, wanted in enumerate(pattern.split(".")):
        if wanted == "*":
            found.append(tokens[index])
        elif wanted == ">":
            found.extend(tokens[index:])
    return tuple(found)


_RESERVED: Final = ("$SRV.", "$SYS.", "$JS.", "$KV.", "$O.", "$MQTT.")
"""What services and servers listen to, and what streams store: values, objects, sessions. Nobody has an inbox there."""

SERVER_INBOXES: Final = "$SYS._INBOX."
"""Where servers wait for the answers to their own requests, such as those to an auth callout."""


def forbidden_reply_prefixes(control_prefix: str) -> tuple[str, ...]:
    """Return how the subjects begin to which a service with this control prefix does not reply, but for exceptions."""
    return (*_RESERVED, f"{control_prefix}.")


def overlaps_control_plane(prefix: str, control_prefix: str) -> bool:
    """Whether subjects below ``prefix`` are control subjects, of this control prefix or the default one."""
    return any(
        f"{prefix}.".startswith(f"{plane}.") or f"{plane}.".startswith(f"{prefix}.")
        for plane in ("$SRV", control_prefix)
    )


LINE_OVERHEAD: Final = 40
"""Bytes that a control line needs at most besides its subjects, for the verb, sizes and blanks."""

MAX_CONTROL_LINE: Final = 4096
"""Bytes of the longest control line that servers take unless they are configured otherwise."""

LONG_SUBJECT: Final = 500
"""Characters of a subject from which on its length in bytes is compared with what a control line can hold."""


def is_answerable(reply: str, forbidden: tuple[str, ...], max_bytes: int, excepted: tuple[str, ...] = ()) -> bool:
    """Whether a reply may be sent there: a literal subject of at most so many bytes that begins with nothing forbidden.

    What begins with something ``excepted`` is not forbidden.

    A requester chooses the reply subject and the service publishes to it with its own permissions, so one message with
    a reply of ``$SRV.PING`` would make services answer one another, and one of ``$KV.prices.tea`` would store the answer.
    A server closes connections that send it a longer line than it takes.
    """
    return not (
        (reply.startswith(forbidden) and not reply.startswith(excepted))
        or "*" in reply
        or ">" in reply
        or ".." in reply
        or reply[0] == "."
        or reply[-1] == "."
        or (len(reply) > LONG_SUBJECT and len(reply.encode()) > max_bytes)
    )
