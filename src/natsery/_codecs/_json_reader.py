"""How the JSON codec reads bodies: text to values, and values to those of a type."""

from __future__ import annotations

import json
from collections.abc import Callable
from math import isfinite
from typing import Any, Final, NoReturn

from .._errors import DecodeError
from ._foreign import Foreign
from ._shape_of import shape_of
from ._shapes import MisfitError


def json_decoder(type_: Any) -> Callable[[bytes], Any]:
    """See `JSONCodec.decoder`."""
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
        reason = f"{error.msg} at character {error.pos}" if error.doc.strip() else "it is empty"
        raise MisfitError(f"is not JSON: {reason}") from None
    except UnicodeError:
        raise MisfitError("is not JSON: its text is not Unicode") from None
    except ValueError:
        raise MisfitError("has an int of too many digits") from None
    return value
