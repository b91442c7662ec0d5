"""The types of single values: the shape that reads each, and the function that writes it if JSON has no such type."""

from __future__ import annotations

import re
from base64 import b64encode
from binascii import a2b_base64
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from types import NoneType
from typing import Any, Final
from uuid import UUID

from ._shapes import Anything, Exactly, Integer, Number, Shape, Text

_DATE: Final = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME: Final = r"[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?([Zz]|[+-][0-9]{2}:[0-9]{2})?"
_DURATION: Final = re.compile(
    r"(?P<sign>[+-])?P(?=[0-9T])((?P<weeks>[0-9]+)W)?((?P<days>[0-9]+)D)?"
    r"(T(?=[0-9])((?P<hours>[0-9]+)H)?((?P<minutes>[0-9]+)M)?((?P<seconds>[0-9]+)(\.(?P<fraction>[0-9]+))?S)?)?"
)
_UUID: Final = r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_DECIMAL: Final = r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?"


def _read_duration(text: str) -> timedelta:
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError
    parts = {name: int(found[name] or 0) for name in ("weeks", "days", "hours", "minutes", "seconds")}
    duration = timedelta(**parts, microseconds=int((found["fraction"] or "0")[:6].ljust(6, "0")))
    return -duration if found["sign"] == "-" else duration


def _write_duration(value: timedelta) -> str:
    sign, value = ("-", -value) if value.days < 0 else ("", value)
    days = f"{value.days}D" if value.days else ""
    fraction = f".{value.microseconds:06}".rstrip("0") if value.microseconds else ""
    seconds = f"T{value.seconds}{fraction}S" if value.seconds or fraction or not days else ""
    return f"{sign}P{days}{seconds}"


def _write_time(value: datetime | time) -> str:
    text = value.isoformat()
    return f"{text[:-6]}Z" if text.endswith("+00:00") else text


def _write_decimal(value: Decimal) -> str:
    if not value.is_finite():
        raise ValueError(f"{value!r} cannot be written; write None for a value that is not there")
    return str(value)


def _read_datetime(text: str) -> datetime:
    return datetime.fromisoformat(text.upper())


def _read_time(text: str) -> time:
    return time.fromisoformat(text.upper())


def _read_bytes(text: str) -> bytes:
    return a2b_base64(text, strict_mode=True)


def _write_bytes(value: bytes | bytearray | memoryview) -> str:
    return b64encode(value).decode()


_NULL: Final = Exactly("null", NoneType, "null")
_ANYTHING: Final = Anything()

SHAPES: Final[dict[Any, Shape]] = {
    None: _NULL,
    NoneType: _NULL,
    bool: Exactly("true or false", bool, "boolean"),
    int: Integer(),
    float: Number(),
    str: Exactly("a string", str, "string"),
    Any: _ANYTHING,
    object: _ANYTHING,
    bytes: Text("base64 text", _read_bytes, contentEncoding="base64"),
    datetime: Text("a date and time (RFC 3339)", _read_datetime, rf"{_DATE}[Tt ]{_TIME}", format="date-time"),
    date: Text("a date (RFC 3339)", date.fromisoformat, _DATE, format="date"),
    time: Text("a time (RFC 3339)", _read_time, _TIME, format="time"),
    timedelta: Text("a duration (ISO 8601)", _read_duration, format="duration"),
    Decimal: Text("a decimal number as text", Decimal, _DECIMAL, pattern=f"^{_DECIMAL}$"),
    UUID: Text("a UUID", UUID, _UUID, format="uuid"),
}
"""How a single value is read, by its type."""

WRITERS: Final[dict[type, Callable[[Any], Any]]] = {
    Enum: lambda value: value.value,
    datetime: _write_time,
    date: date.isoformat,
    time: _write_time,
    timedelta: _write_duration,
    Decimal: _write_decimal,
    UUID: str,
    bytes: _write_bytes,
    bytearray: _write_bytes,
    memoryview: _write_bytes,
}
"""How what JSON has no type for is written, by its type or a base of it."""
