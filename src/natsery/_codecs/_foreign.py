"""Shapes of classes that bring their own reading: msgspec's structs, pydantic's models. Each is imported when it is met."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, final

from ._definitions import Definitions
from ._shapes import KINDS, MisfitError, Seen, Shape, show

_STEP: Final = re.compile(r"\.([^.\[\]]+)|\[([0-9]+)\]")


@final
class Foreign(Shape):
    """A class that another library reads.

    Attributes:
        read_json: reads a whole body; raises `MisfitError`.
    """

    def __init__(
        self,
        name: str,
        kinds: frozenset[type],
        read_json: Callable[[bytes], Any],
        read_value: Callable[[Any], Any],
        describe: Callable[[], Mapping[str, Any]],
    ) -> None:
        self.expected = f"an object ({name})"
        self.kinds = kinds
        self.read_json = read_json
        self._name = name
        self._read_value = read_value
        self._describe = describe

    def read(self, value: Any, seen: Seen) -> Any:
        return self._read_value(value)

    def schema(self, definitions: Definitions) -> dict[str, Any]:
        document = {**self._describe()}
        theirs = document.pop("$defs", {})
        if "$ref" in document:
            return definitions.adopt(document, theirs)
        name = self._name if self._name not in theirs else f"{self._name}_"
        return definitions.adopt({"$ref": f"#/$defs/{name}"}, {**theirs, name: document})


def is_struct(cls: type) -> bool:
    """Whether a class is a `msgspec.Struct`."""
    return hasattr(cls, "__struct_config__")


def is_model(cls: type) -> bool:
    """Whether a class is a pydantic model, or a dataclass of pydantic's."""
    return hasattr(cls, "__pydantic_validator__")


def struct_shape(cls: Any, name: str) -> Foreign:
    """Return the shape of a `msgspec.Struct`; a `TypeError` if a field is of a type that msgspec does not know."""
    import msgspec

    decoder = msgspec.json.Decoder(cls)
    try:
        (schema,), components = msgspec.json.schema_components([cls], ref_template="#/$defs/{name}")
    except TypeError as error:
        raise TypeError(
            str(error).splitlines()[-1]
        ) from error  # before that it says what only msgspec's callers can do

    def checked(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def read_or_misfit(data: Any) -> Any:
            try:
                return read(data)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise _misfit(str(error)) from error

        return read_or_misfit

    return Foreign(
        name,
        frozenset({list if cls.__struct_config__.array_like else dict}),
        checked(decoder.decode),
        checked(lambda value: msgspec.convert(value, cls, str_keys=True)),
        lambda: {**schema, "$defs": msgspec.to_builtins(components)},  # defaults may be sets
    )


def _misfit(text: str) -> MisfitError:
    reason, _, path = text.partition(" - at `$")
    # A step is `[...]` where msgspec does not know which.
    steps = [name or int(index) for name, index in _STEP.findall(path.rstrip("`").replace("[...]", ".*"))]
    return MisfitError(reason, reversed(steps))


def model_shape(cls: Any, name: str) -> Foreign:
    """Return the shape of a pydantic model or dataclass; a `TypeError` if pydantic cannot read one of its fields."""
    import pydantic

    try:
        adapter = pydantic.TypeAdapter(cls)
        adapter.rebuild()  # now, if the class puts that off
    except (pydantic.PydanticUserError, pydantic.errors.PydanticUndefinedAnnotation) as error:
        raise TypeError(str(error)) from error

    def read(data: bytes | str) -> Any:
        try:
            return adapter.validate_json(data)
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            reason = "is missing" if first["type"] == "missing" else f"{first['msg']}, got {show(first['input'])}"
            if first["type"] == "json_invalid":
                reason = f"is not JSON: {first['msg']}"
            raise MisfitError(reason, reversed(first["loc"])) from error

    def describe() -> Mapping[str, Any]:
        try:
            return adapter.json_schema()
        except pydantic.PydanticUserError as error:
            raise TypeError(f"{name}: {error}") from error

    return Foreign(
        name,
        KINDS if getattr(cls, "__pydantic_root_model__", False) else frozenset({dict}),
        read,
        lambda value: read(json.dumps(value)),
        describe,
    )
