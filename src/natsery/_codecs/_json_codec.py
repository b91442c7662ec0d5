"""The codec for JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import isfinite
from typing import Any, Final, NoReturn, final

from .._errors import DecodeError
from ._codec import Codec
from ._definitions import Definitions
from ._foreign import Foreign
from ._json_writer import JSONWriter
from ._shape_of import shape_of
from ._shapes import MisfitError


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
        shape = shape_of(type_)
        read = shape.read
        read_body = shape.read_json if isinstance(shape, Foreign) else lambda data: read(_parse(data), {})

        def decode(data: bytes) -> Any:
            try:
                return read_body(data)
            except MisfitError as misfit:
                raise DecodeError(f"${misfit.path}", misfit.reason) from misfit.__cause__
            except RecursionError:
                raise DecodeError("$", "is nested too deeply") from None

        return decode

    def encoder(self, type_: Any) -> Callable[[Any], bytes]:
        """Return the function that writes a body; how is decided by the value's own type, also inside.

        It raises `TypeError` for a value that JSON has no form for, and `ValueError` for one that is not finite, contains
        itself, is nested too deeply or has text that is not Unicode.
        """
        return JSONWriter().write

    def schema(self, type_: Any) -> dict[str, Any]:
        """Return the JSON Schema (2020-12) of what is read as a type.

        Raises:
            TypeError: as for ``decoder``.
        """
        definitions = Definitions()
        return definitions.complete(shape_of(type_).schema(definitions))


def _refuse_constant(name: str) -> NoReturn:
    raise MisfitError(f"is not JSON: it has {name}, which is not a number in JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise MisfitError("has a number that is out of range")
    return value


_PARSE: Final = json.JSONDecoder(parse_float=_finite, parse_constant=_refuse_constant).decode


def _parse(data: bytes) -> Any:
    try:
        text = str(data, "utf-8")
        value = _PARSE(text)
        if "\\ud" in text or "\\uD" in text:
            json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair is no text
    except json.JSONDecodeError as error:
        raise MisfitError(f"is not JSON: {error.msg} at character {error.pos}") from None
    except UnicodeError:
        raise MisfitError("is not JSON: its text is not Unicode") from None
    except ValueError:
        raise MisfitError("has an int of too many digits") from None
    return value
