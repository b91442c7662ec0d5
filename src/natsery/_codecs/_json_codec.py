"""The codec for JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from ._codec import Codec

# Most of the codec is imported by the first type that is not bytes: programs without typed bodies need none of it.


@final
class JSONCodec(Codec):
    """Reads and writes bodies as JSON, without any other library.

    It knows what JSON has, text for bytes (base64), dates, times, durations, `~decimal.Decimal` and `~uuid.UUID`, enums,
    literals, collections, dataclasses, ``TypedDict``, named tuples, unions, and types that refer to themselves; besides
    `msgspec.Struct` and pydantic models, which read and check themselves. ``docs/typed.md`` has all of them.
    """

    content_type = "application/json"

    def decoder(self, type_: Any) -> Callable[[bytes], Any]:
        """Return the function that reads a body of a type; it raises `DecodeError`, and nothing else, for what does not fit.

        Fields that the type does not have are ignored; of fields with one name the last one counts.

        Raises:
            TypeError: bodies cannot be of this type; says which part, where it stands and what to write instead.
        """
        from ._json_reader import json_decoder

        return json_decoder(type_)

    def encoder(self, type_: Any) -> Callable[[Any], bytes]:
        """Return the function that writes a body; how is decided by the value's own type, also inside.

        It raises `TypeError` for a value that JSON has no form for, and `ValueError` for one that is not finite, contains
        itself, is nested too deeply or has text that is not Unicode.
        """
        from ._json_writer import JSONWriter

        return JSONWriter().write

    def schema(self, type_: Any) -> dict[str, Any]:
        """Return the JSON Schema (2020-12) of what is read as a type.

        Raises:
            TypeError: as for ``decoder``.
        """
        from ._definitions import Definitions
        from ._shape_of import shape_of

        definitions = Definitions()
        return definitions.complete(shape_of(type_).schema(definitions))
