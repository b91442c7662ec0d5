"""Which subjects a pattern covers."""

from __future__ import annotations

from collections.abc import Iterable


def matches(pattern: str, subject: str) -> bool:
    """Whether a subscription to ``pattern`` gets what is published to ``subject``."""
    wanted, given = pattern.split("."), subject.split(".")
    for index, token in enumerate(wanted):
        if token == ">":
            return len(given) > index
        if index >= len(given) or token not in ("*", given[index]):
            return False
    return len(wanted) == len(given)


def covers(pattern: str, narrower: str) -> bool:
    """Whether everything that ``narrower``, itself a pattern, stands for is among what ``pattern`` stands for."""
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
