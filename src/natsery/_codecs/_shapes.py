"""What a type reads: the base of all shapes, and those of single values."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from types import NoneType
from typing import Any, Final, TypeAlias, final

from .._errors import plain_text
from ._definitions import Definitions

Seen: TypeAlias = dict[tuple[int, int], tuple[bool, Any]]
"""What unions have tried while one body is read, and what came of it."""

KINDS: Final = frozenset({NoneType, bool, int, float, str, list, dict})
"""The types of parsed JSON."""

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_LONGEST_REASON: Final = 200
_LONGEST_VALUE: Final = 60
_MOST_CHOICES: Final = 8


@final
class MisfitError(Exception):
    """A value does not fit. The steps to where that is are gathered, innermost first, while the error unwinds."""

    def __init__(self, reason: str, steps: Iterable[str | int] = ()) -> None:
        super().__init__(reason)
        self.reason = plain_text(reason, _LONGEST_REASON)
        self.steps = [*steps]

    @property
    def path(self) -> str:
        """Where it is, such as ``".a[2]"``."""
        return "".join(map(_step, reversed(self.steps)))


def _step(step: str | int) -> str:
    if isinstance(step, str) and _NAME.fullmatch(step):
        return f".{step}"
    return f"[{show(step)}]"


def show(value: object) -> str:
    """Return a parsed value as an error shows it, at a cost that does not depend on its size."""
    if value is None or isinstance(value, bool):
        return str(value).replace("None", "null").lower()
    if isinstance(value, (list, dict)):
        return f"an {'array' if isinstance(value, list) else 'object'} of {len(value)}"
    text = ascii(value[:_LONGEST_VALUE] if isinstance(value, str) else value)
    is_cut = len(text) > _LONGEST_VALUE or (isinstance(value, str) and len(value) > _LONGEST_VALUE)
    return f"{text[:_LONGEST_VALUE]}..." if is_cut else text


class Shape(ABC):
    """Reads the values of one type from parsed JSON, and describes them.

    Attributes:
        expected: what a value must be, such as ``"an int"``.
        kinds: the types of parsed JSON among which such values are.
    """

    expected: str = "anything"
    kinds: frozenset[type] = KINDS

    @abstractmethod
    def read(self, value: Any, seen: Seen) -> Any:
        """Return what a parsed value means, or raise `MisfitError`."""

    @abstractmethod
    def schema(self, definitions: Definitions) -> dict[str, Any]:
        """Return its JSON Schema, which may refer to definitions."""

    def misfit(self, value: object) -> MisfitError:
        """Return the error for a value."""
        return MisfitError(f"must be {self.expected}, got {show(value)}")


@final
class Anything(Shape):
    """``Any`` and ``object``."""

    def read(self, value: Any, seen: Seen) -> Any:
        return value

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        return {}


@final
class Exactly(Shape):
    """What JSON has a type for: null, true and false, text."""

    def __init__(self, expected: str, kind: type, name: str) -> None:
        self.expected = expected
        self.kinds = frozenset({kind})
        self._kind = kind
        self._name = name

    def read(self, value: Any, seen: Seen) -> Any:
        if type(value) is self._kind:
            return value
        raise self.misfit(value)

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        return {"type": self._name}


@final
class Integer(Shape):
    """``int``, which other languages may write as ``1.0`` or ``1e3``."""

    expected = "an int"
    kinds = frozenset({int, float})

    def read(self, value: Any, seen: Seen) -> int:
        if type(value) is int:
            return value
        if type(value) is float and value.is_integer():
            return int(value)
        raise self.misfit(value)

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        return {"type": "integer"}


@final
class Number(Shape):
    """``float``."""

    expected = "a number"
    kinds = frozenset({int, float})

    def read(self, value: Any, seen: Seen) -> float:
        if type(value) is float:
            return value
        if type(value) is int:
            try:
                return float(value)
            except OverflowError:
                raise MisfitError(f"must be within the range of a float, got {show(value)}") from None
        raise self.misfit(value)

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        return {"type": "number"}


@final
class Text(Shape):
    """A value that is written as text, such as a date."""

    kinds = frozenset({str})

    def __init__(
        self, expected: str, convert: Callable[[str], Any], pattern: str | None = None, /, **schema: str
    ) -> None:
        self.expected = expected
        self._convert = convert
        self._matches = re.compile(
            pattern or r"(?s:.*)"
        ).fullmatch  # a pattern keeps out what `convert` alone would let in
        self._schema = schema

    def read(self, value: Any, seen: Seen) -> Any:
        if type(value) is str and self._matches(value):
            try:
                return self._convert(value)
            except (ValueError, ArithmeticError):
                pass
        raise self.misfit(value)

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        return {"type": "string", **self._schema}


@final
class Choice(Shape):
    """``Literal`` and ``Enum``: one of a few values.

    Attributes:
        is_text: whether all are strings, also in Python.
    """

    def __init__(self, choices: Iterable[tuple[Any, Any]], **schema: str) -> None:
        # With their types, for True is equal to 1.
        self._meanings = {(type(written), written): meaning for written, meaning in choices}
        self.kinds = frozenset(kind for kind, _ in self._meanings)
        self.is_text = all(isinstance(meaning, str) for meaning in self._meanings.values())
        written = [written for _, written in self._meanings]
        shown = [show(each) for each in written[:_MOST_CHOICES]]
        self.expected = " or ".join(shown if len(shown) == len(written) else [*shown, "..."])
        self._schema = {**schema, "enum": written}

    def read(self, value: Any, seen: Seen) -> Any:
        kind = type(value)
        if kind in self.kinds and (kind, value) in self._meanings:
            return self._meanings[kind, value]
        raise self.misfit(value)

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        return self._schema
