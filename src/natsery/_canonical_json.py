"""JSON in the canonical form of RFC 8785: the same value gives the same bytes in every language."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, Final

_LARGEST_INTEGER: Final = 2**53
"""Beyond it, RFC 8785 writes integers as the doubles that they are in JavaScript."""


def canonical_json(value: Any) -> bytes:
    """Return a JSON value as RFC 8785 has it: sorted keys, no white space, numbers as JavaScript writes them.

    Raises:
        TypeError, ValueError, OverflowError: it is no JSON value, or has a number that is no finite double.
    """
    return _written(value).encode()


def _written(value: Any) -> str:
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("the keys of a JSON object must be str")
        keys = sorted(value, key=lambda key: key.encode("utf-16-be"))
        return f"{{{','.join(f'{_written(key)}:{_written(value[key])}' for key in keys)}}}"
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_written, value))}]"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _LARGEST_INTEGER:
        value = float(value)
    if isinstance(value, float) and abs(value) < float("inf"):
        return _number(value)
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _number(value: float) -> str:
    """Return a finite number as ECMAScript's ``Number::toString`` has it."""
    if not value:
        return "0"
    sign = "-" if value < 0 else ""
    _, all_digits, exponent = Decimal(repr(abs(value))).as_tuple()
    digits = "".join(map(str, all_digits)).lstrip("0")
    point = len(digits) + int(exponent)  # how many digits stand before the decimal point
    digits = digits.rstrip("0")
    if len(digits) <= point <= 21:
        return sign + digits.ljust(point, "0")
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    mantissa = f"{digits[0]}.{digits[1:]}" if len(digits) > 1 else digits
    return f"{sign}{mantissa}e{point - 1:+d}"
