"""How values are written as JSON: by their own type, whatever they were declared as."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from typing import Any, final

from ._foreign import is_model, is_struct
from ._scalars import WRITERS


@final
class JSONWriter:
    """Writes values, and remembers how those of each class are written."""

    def __init__(self) -> None:
        self._writers: dict[type, Callable[[Any], Any]] = {}
        self._encode = json.JSONEncoder(
            separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=self._default
        ).encode

    def write(self, value: Any) -> bytes:
        """Return a value as JSON.

        Raises:
            TypeError, ValueError: it cannot be written.
        """
        try:
            return self._encode(value).encode()
        except RecursionError:
            raise ValueError("the value is nested too deeply to be written as JSON") from None

    def _default(self, value: Any) -> Any:
        cls = type(value)
        writer = self._writers.get(cls)
        if writer is None:
            writer = self._writers[cls] = self._writer_of(cls)
        return writer(value)

    def _writer_of(self, cls: Any) -> Callable[[Any], Any]:
        if is_struct(cls):
            import msgspec

            return lambda value: msgspec.to_builtins(value, str_keys=True, enc_hook=self._default)
        if is_model(cls):
            return lambda value: cls.__pydantic_serializer__.to_python(value, mode="json", by_alias=True)
        if is_dataclass(cls):
            names = tuple(each.name for each in fields(cls) if each.init)
            return lambda value: {name: getattr(value, name) for name in names}
        for base, writer in WRITERS.items():
            if issubclass(cls, base):
                return writer
        if issubclass(cls, Mapping):
            return dict
        if issubclass(cls, AbstractSet):
            return list
        raise TypeError(
            f"{cls.__module__}.{cls.__qualname__} cannot be written as JSON; write a dataclass, a dict, a msgspec.Struct, a "
            "pydantic model, or another type that can be read"
        )
