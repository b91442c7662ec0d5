"""How values are checked: rules that say what is wrong, and the errors raised for configuration and for arguments."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, final

from ._errors import ConfigError, shorten

T = TypeVar("T")

Rule: TypeAlias = Callable[[Any], "str | None"]
"""Returns what is wrong with a value, such as ``"must not be empty"``, or ``None``; a `WrongType` if it is its type."""


@final
class WrongType(str):
    """What a value must be, if it is of another type."""

    __slots__ = ()


def check_config(field: str, value: T, rule: Rule) -> T:
    """Return a value of a configuration if a rule has nothing against it.

    Raises:
        ConfigError: it breaks the rule.
    """
    wrong = rule(value)
    if wrong is not None:
        raise ConfigError(field, value, wrong)
    return value


def check_argument(name: str, value: T, rule: Rule) -> T:
    """Return an argument of a call if a rule has nothing against it.

    Raises:
        TypeError: it is of the wrong type.
        ValueError: it breaks the rule in another way.
    """
    wrong = rule(value)
    if wrong is not None:
        raise_for_argument(name, shorten(value), wrong)
    return value


def raise_for_argument(name: str, shown: str, wrong: str) -> None:
    """Raise the error for an argument, of which ``shown`` may be seen."""
    error = TypeError if isinstance(wrong, WrongType) else ValueError
    raise error(f"{name}: {wrong}; got {shown}")


def text_rule(value: object) -> str | None:
    """A ``str`` that can be written as UTF-8."""
    if not isinstance(value, str):
        return WrongType("must be a str")
    try:
        value.encode()
    except UnicodeEncodeError:
        return "must be writable as UTF-8"
    return None


def count_rule(value: object) -> str | None:
    """A whole number of things, 1 or more."""
    if not isinstance(value, int) or isinstance(value, bool):
        return WrongType("must be an int of at least 1")
    return "must be an int of at least 1" if value < 1 else None


def flag_rule(value: object) -> str | None:
    """``True`` or ``False``."""
    return None if isinstance(value, bool) else WrongType("must be True or False")


def function_rule(value: object) -> str | None:
    """A function or another object that can be called."""
    return None if callable(value) else WrongType("must be callable")


def seconds_rule(*, zero: bool = False, infinite: bool = False) -> Rule:
    """A duration in seconds; possibly zero, possibly infinite."""
    wrong = f"must be a number of seconds, {'0 or more' if zero else 'more than 0'}"

    def rule(value: object) -> str | None:
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            return WrongType(wrong)
        if math.isnan(value) or value < 0 or (value == 0 and not zero):
            return wrong
        return "must be finite" if value == math.inf and not infinite else None

    return rule


GRACE_RULE = seconds_rule(zero=True, infinite=True)
"""A drain allowance."""
