"""Shapes of JSON objects with fields: dataclasses and typed dictionaries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, final

from ._definitions import Definitions
from ._shapes import MisfitError, Seen, Shape


@final
@dataclass(frozen=True, slots=True)
class Field:
    """A field of a record; ``annotations`` go into its schema, such as its default."""

    name: str
    shape: Shape
    required: bool
    annotations: dict[str, Any] = field(default_factory=dict[str, Any])


@final
class Record(Shape):
    """An object with fields; what else it holds is ignored."""

    kinds = frozenset({dict})

    def __init__(self, name: str, make: Callable[..., Any], description: str) -> None:
        self.expected = f"an object ({name})"
        self._name = name
        self._make = make
        self._description = {"description": description} if description else {}
        self._fields: Sequence[Field] = ()
        self._reads: Sequence[tuple[str, Callable[[Any, Seen], Any], bool]] = ()

    def expect(self, fields: Sequence[Field]) -> None:
        """Set the fields, which may refer to this shape."""
        self._fields = fields
        self._reads = [(each.name, each.shape.read, each.required) for each in fields]

    def read(self, value: Any, seen: Seen) -> Any:
        if type(value) is not dict:
            raise self.misfit(value)
        arguments: dict[str, Any] = {}
        name = ""
        try:
            for name, read, required in self._reads:
                if name in value:
                    arguments[name] = read(value[name], seen)
                elif required:
                    raise MisfitError("is missing")
        except MisfitError as misfit:
            misfit.steps.append(name)
            raise
        try:
            return self._make(**arguments)
        except (TypeError, ValueError) as error:  # the class has rules of its own
            raise MisfitError(str(error) or type(error).__name__) from error

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        return definitions.refer(self, self._name, lambda: self._describe(definitions))

    def _describe(self, definitions: Definitions) -> dict[str, Any]:
        required = [each.name for each in self._fields if each.required]
        return {
            "title": self._name,
            **self._description,
            "type": "object",
            "properties": {each.name: {**each.shape.schema(definitions), **each.annotations} for each in self._fields},
            **({"required": required} if required else {}),
        }
