"""Shapes that hold others: lists, sets, tuples, mappings, unions, and names for types."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any, Final, final

from ._definitions import Definitions
from ._shapes import KINDS, MisfitError, Seen, Shape

_MOST_COLLISIONS: Final = 100


@final
class Items(Shape):
    """Any number of items: lists, sets, and tuples such as ``tuple[int, ...]``."""

    expected = "an array"
    kinds = frozenset({list})

    def __init__(self, item: Shape, collect: Callable[[list[Any]], Any] | None = None) -> None:
        self._item = item
        self._collect = collect

    def read(self, value: Any, seen: Seen) -> Any:
        if type(value) is not list:
            raise self.misfit(value)
        items: list[Any] = []
        read = self._item.read
        try:
            for each in value:
                items.append(read(each, seen))  # noqa: PERF401  # how many there are is the place of a misfit
        except MisfitError as misfit:
            misfit.steps.append(len(items))
            raise
        return self._collect(items) if self._collect else items

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        return {"type": "array", "items": self._item.schema(definitions)}


def collect_set(items: list[Any]) -> set[Any]:
    """Return items as a set, unless that would take long."""
    try:
        if len(items) > _MOST_COLLISIONS:  # somebody may have looked for numbers whose hashes are equal
            firsts: dict[int, Any] = {}
            if sum(firsts.setdefault(hash(each), each) != each for each in items) > _MOST_COLLISIONS:
                raise MisfitError("has too many items of the same hash")
        return set(items)
    except TypeError:
        raise MisfitError("has an item that cannot be in a set") from None


def collect_frozenset(items: list[Any]) -> frozenset[Any]:
    """Return items as a frozen set, as `collect_set` does."""
    return frozenset(collect_set(items))


@final
class Row(Shape):
    """Items of different types: ``tuple[int, str]`` and named tuples, whose last fields may have defaults."""

    kinds = frozenset({list})

    def __init__(self, make: Callable[..., Any], title: str = "", required: int | None = None) -> None:
        self._make = make
        self._title = title
        self._required = required
        self.expect(())

    def expect(self, items: Sequence[Shape]) -> None:
        """Set the items, which may refer to this shape."""
        self._items = items
        self._fewest = len(items) if self._required is None else self._required
        count = str(len(items)) if self._fewest == len(items) else f"{self._fewest} to {len(items)}"
        self.expected = f"an array of {count}"

    def read(self, value: Any, seen: Seen) -> Any:
        if type(value) is not list or not self._fewest <= len(value) <= len(self._items):
            raise self.misfit(value)
        items: list[Any] = []
        try:
            for item, each in zip(self._items, value, strict=False):
                items.append(item.read(each, seen))  # as above
        except MisfitError as misfit:
            misfit.steps.append(len(items))
            raise
        return self._make(items)

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        if self._title:
            return definitions.refer(self, self._title, lambda: {"title": self._title, **self._describe(definitions)})
        return self._describe(definitions)

    def _describe(self, definitions: Definitions) -> dict[str, Any]:
        items = {"prefixItems": [each.schema(definitions) for each in self._items]} if self._items else {}
        return {"type": "array", **items, "minItems": self._fewest, "maxItems": len(self._items)}


@final
class Entries(Shape):
    """Mappings, whose keys are text in JSON."""

    expected = "an object"
    kinds = frozenset({dict})

    def __init__(self, key: Shape | None, item: Shape) -> None:
        self._key = key
        self._item = item

    def read(self, value: Any, seen: Seen) -> dict[Any, Any]:
        if type(value) is not dict:
            raise self.misfit(value)
        entries: dict[Any, Any] = {}
        read = self._item.read
        key = ""
        try:
            for key, each in value.items():
                entries[self._key.read(key, seen) if self._key else key] = read(each, seen)
        except MisfitError as misfit:
            misfit.steps.append(key)
            raise
        return entries

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        names = {"propertyNames": self._key.schema(definitions)} if self._key else {}
        return {"type": "object", "additionalProperties": self._item.schema(definitions), **names}


@final
class Either(Shape):
    """A union: the first member that a value fits."""

    def __init__(self, members: Iterable[Shape]) -> None:
        self._members = tuple(members)

    # A member may be a name whose type is not known before the whole has been made.

    @cached_property
    def expected(self) -> str:  # type: ignore[override]
        return " or ".join(member.expected for member in self._members)

    @cached_property
    def kinds(self) -> frozenset[type]:  # type: ignore[override]
        return frozenset[type]().union(*(member.kinds for member in self._members))

    @cached_property
    def _of_kind(self) -> dict[type, list[Shape]]:
        return {kind: [member for member in self._members if kind in member.kinds] for kind in KINDS}

    def read(self, value: Any, seen: Seen) -> Any:
        candidates = self._of_kind[type(value)]
        if len(candidates) == 1:
            return candidates[0].read(value, seen)
        reasons: list[str] = []
        for member in candidates:
            fits, result = _try(member, value, seen)
            if fits:
                return result
            reasons.append(f"{member.expected}: {result}")
        if reasons and isinstance(value, (list, dict)):
            raise MisfitError(f"must be {'; or '.join(reasons)}")
        raise self.misfit(value)

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        return {"anyOf": [member.schema(definitions) for member in self._members]}


def _try(member: Shape, value: Any, seen: Seen) -> tuple[bool, Any]:
    # Each value is tried once with each member. In a recursive type, where unions are inside unions, each level would
    # otherwise double the time.
    key = (id(member), id(value))
    if key in seen:
        return seen[key]
    try:
        outcome = True, member.read(value, seen)
    except MisfitError as misfit:
        outcome = False, f"{misfit.path} {misfit.reason}".lstrip()
    if isinstance(value, (list, dict)):  # what else is equal may be the same object
        seen[key] = outcome
    return outcome


@final
class Named(Shape):
    """A name for a type (``type Tree = list[Tree]``), which may refer to itself."""

    def __init__(self, name: str) -> None:
        self.expected = name
        self._target: Shape = self

    @property
    def kinds(self) -> frozenset[type]:  # type: ignore[override]
        return self._target.kinds

    def expect(self, target: Shape) -> None:
        """Set the type that is meant, which may refer to this shape."""
        self._target = target

    def read(self, value: Any, seen: Seen) -> Any:
        return self._target.read(value, seen)

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        return definitions.refer(self, self.expected, lambda: self._target.schema(definitions))
