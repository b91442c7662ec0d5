"""The replies to PING, INFO and STATS: written exactly as ADR-32 has them, read from every known implementation."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any, ClassVar, Self, final

from ._adr32 import INFO_RESPONSE_TYPE, PING_RESPONSE_TYPE, STATS_RESPONSE_TYPE
from ._errors import MalformedReplyError


def _empty() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class ServicePing:
    """The identity of a service instance: the reply to PING, and the head of the other two."""

    response_type: ClassVar[str] = PING_RESPONSE_TYPE

    name: str
    id: str
    version: str
    metadata: Mapping[str, str] = field(default_factory=_empty)

    def to_dict(self) -> dict[str, Any]:
        """Return the reply as a JSON object, its fields in ADR-32's order."""
        return {
            "name": self.name,
            "id": self.id,
            "version": self.version,
            "metadata": dict(self.metadata),
            "type": self.response_type,
        }

    def to_json(self) -> bytes:
        """Return the reply as compact JSON."""
        return json.dumps(self.to_dict(), separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read a reply of any implementation: fields that implementations leave out or set to null get their empty value.

        Raises:
            MalformedReplyError: it is not JSON, is of another type, or lacks a name, an id or a version.
        """
        try:
            value = json.loads(data, parse_int=_read_int)
        except (ValueError, RecursionError) as error:
            raise MalformedReplyError(f"not JSON: {error}") from None
        reader = _Reader(value, "reply")
        kind = reader.text("type", cls.response_type)
        if kind != cls.response_type:
            raise MalformedReplyError(f"type is {kind!r:.100}, not {cls.response_type!r}")
        return cls(**cls._fields(reader))

    @classmethod
    def _fields(cls, reader: _Reader) -> dict[str, Any]:
        return {
            "name": reader.required_text("name"),
            "id": reader.required_text("id"),
            "version": reader.required_text("version"),
            "metadata": reader.metadata(),
        }


@final
@dataclass(frozen=True, kw_only=True)
class EndpointInfo:
    """An endpoint as INFO describes it."""

    name: str
    subject: str
    queue_group: str = ""
    metadata: Mapping[str, str] = field(default_factory=_empty)

    def to_dict(self) -> dict[str, Any]:
        """Return the endpoint as a JSON object, its fields in ADR-32's order."""
        return {
            "name": self.name,
            "subject": self.subject,
            "queue_group": self.queue_group,
            "metadata": dict(self.metadata),
        }


@final
@dataclass(frozen=True, kw_only=True)
class ServiceInfo(ServicePing):
    """The description of a service instance: the reply to INFO."""

    response_type: ClassVar[str] = INFO_RESPONSE_TYPE

    description: str = ""
    endpoints: tuple[EndpointInfo, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the reply as a JSON object, its fields in ADR-32's order."""
        return {
            **super().to_dict(),
            "description": self.description,
            "endpoints": [endpoint.to_dict() for endpoint in self.endpoints],
        }

    @classmethod
    def _fields(cls, reader: _Reader) -> dict[str, Any]:
        return {
            **super()._fields(reader),
            "description": reader.text("description", ""),
            "endpoints": tuple(
                EndpointInfo(
                    name=each.required_text("name"),
                    subject=each.required_text("subject"),
                    queue_group=each.text("queue_group", ""),
                    metadata=each.metadata(),
                )
                for each in reader.endpoints()
            ),
        }


@final
@dataclass(frozen=True, kw_only=True)
class EndpointStats:
    """The statistics of an endpoint since the service started or was reset.

    Attributes:
        num_requests: requests whose handling has ended, good and failed together.
        num_errors: those that failed.
        last_error: the last failure as ``"<code>:<description>"``, ``""`` if there was none.
        processing_time: time spent in handlers, in nanoseconds.
        average_processing_time: ``processing_time // num_requests``, in nanoseconds, 0 for none.
        data: what the stats handler returned; ``None`` if there is none.
        failures: ``num_errors`` by cause; known in the service's own process only, it does not travel.
        malformed: messages that were no requests and are not in ``num_requests``; it does not travel either.
    """

    name: str
    subject: str
    queue_group: str = ""
    num_requests: int = 0
    num_errors: int = 0
    last_error: str = ""
    processing_time: int = 0
    average_processing_time: int = 0
    data: Any = None  # whatever JSON value the service's author chose
    failures: Mapping[str, int] = field(default_factory=_empty)
    malformed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the endpoint as a JSON object, its fields in ADR-32's order."""
        result: dict[str, Any] = {
            "name": self.name,
            "subject": self.subject,
            "queue_group": self.queue_group,
            "num_requests": self.num_requests,
            "num_errors": self.num_errors,
            "last_error": self.last_error,
            "processing_time": self.processing_time,
            "average_processing_time": self.average_processing_time,
        }
        if self.data is not None:
            result["data"] = self.data
        return result


@final
@dataclass(frozen=True, kw_only=True)
class ServiceStats(ServicePing):
    """The statistics of a service instance: the reply to STATS.

    Attributes:
        started: when it started or was last reset, with its time zone.
        endpoints: one entry for each endpoint, in the order of addition.
    """

    response_type: ClassVar[str] = STATS_RESPONSE_TYPE

    started: datetime
    endpoints: tuple[EndpointStats, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the reply as a JSON object, its fields in ADR-32's order."""
        return {
            **super().to_dict(),
            "started": format_time(self.started),
            "endpoints": [endpoint.to_dict() for endpoint in self.endpoints],
        }

    @classmethod
    def _fields(cls, reader: _Reader) -> dict[str, Any]:
        return {
            **super()._fields(reader),
            "started": parse_time(reader.required_text("started")),
            "endpoints": tuple(
                EndpointStats(
                    name=each.required_text("name"),
                    subject=each.required_text("subject"),
                    queue_group=each.text("queue_group", ""),
                    num_requests=each.integer("num_requests") or 0,
                    num_errors=each.integer("num_errors") or 0,
                    last_error=each.text("last_error", ""),
                    processing_time=_times(each)[0],
                    average_processing_time=_times(each)[1],
                    data=each.value.get("data"),
                )
                for each in reader.endpoints()
            ),
        }


def _times(reader: _Reader) -> tuple[int, int]:
    """Return total and mean, each calculated from the other where an implementation leaves it out."""
    requests = reader.integer("num_requests") or 0
    total = reader.duration("processing_time")
    mean = reader.duration("average_processing_time")
    if total is None:
        total = (mean or 0) * requests
    if mean is None:
        mean = total // requests if requests else 0
    return total, mean


class _Reader:
    """Takes the fields out of one JSON object, each with the leniency that it needs: one odd value hides no other."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise MalformedReplyError(f"{where} is not a JSON object")
        self.value: dict[str, Any] = value
        self._where = where

    def required_text(self, key: str) -> str:
        value = self.value.get(key)
        if not isinstance(value, str) or not value:
            raise MalformedReplyError(f"{self._name()}{key} is not a non-empty string: {value!r:.100}")
        return _writable(value)

    def text(self, key: str, default: str) -> str:
        value = self.value.get(key)
        return default if value is None else _as_text(value)

    def integer(self, key: str) -> int | None:
        """Return a whole number, ``None`` if there is none or it is not one."""
        value = self.value.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            return None
        return int(value)

    def duration(self, key: str) -> int | None:
        """Return nanoseconds, ``None`` if there are none; given as a number, or as text such as ``"1m2.5s"``."""
        value = self.value.get(key)
        return _read_duration(value) if isinstance(value, str) else self.integer(key)

    def metadata(self) -> Mapping[str, str]:
        value = self.value.get("metadata")
        if not isinstance(value, dict):
            return _empty()
        return MappingProxyType({_writable(key): "" if item is None else _as_text(item) for key, item in value.items()})

    def endpoints(self) -> list[_Reader]:
        """Return the endpoints that have a name and a subject; some implementations send an object instead of an array."""
        value = self.value.get("endpoints")
        items = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
        wanted = ("name", "subject")
        return [
            _Reader(item, f"{self._where}.endpoints[{index}]")
            for index, item in enumerate(items)
            if isinstance(item, dict) and all(isinstance(item.get(key), str) and item[key] for key in wanted)
        ]

    def _name(self) -> str:
        """Return which service and instance this is, as far as that can be read."""
        known = [each for each in (self.value.get("name"), self.value.get("id")) if isinstance(each, str) and each]
        return f"{_writable(' '.join(known))!r:.100}: {self._where}." if known else f"{self._where}."


def _read_int(digits: str) -> int:
    return int(digits) if len(digits) <= _MAX_DIGITS else 0


def _as_text(value: Any) -> str:
    return _writable(value if isinstance(value, str) else json.dumps(value))


def _writable(text: str) -> str:
    return text.encode(errors="replace").decode()


def _read_duration(text: str) -> int | None:
    """Return the nanoseconds of a duration as Go writes it, ``None`` if it is not one."""
    parts = _DURATION_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text.removeprefix("-"):
        return None
    return round(sum(float(number) * _UNITS[unit] for number, unit in parts))


def check_json(value: Any) -> None:
    """Raise ``TypeError`` or ``ValueError`` if a value cannot be written as JSON."""
    json.dumps(value, allow_nan=False, ensure_ascii=False).encode()


_MAX_DIGITS = 300
"""Digits of the largest number that is read; there is none that large among the figures of a service."""

_UNITS = {"ns": 1, "us": 1e3, "µs": 1e3, "μs": 1e3, "ms": 1e6, "s": 1e9, "m": 60e9, "h": 3600e9}
_DURATION_PART = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,20})?)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?(?:([Zz])|([+-])(\d\d):?(\d\d))",
    re.ASCII,
)


def format_time(moment: datetime) -> str:
    """Return a time as RFC 3339 in UTC with a ``Z`` and microseconds."""
    try:
        utc = moment.astimezone(UTC).replace(tzinfo=None)
    except OverflowError:  # at an end of the calendar, with an offset
        return moment.isoformat(timespec="microseconds")
    return f"{utc.isoformat(timespec='microseconds')}Z"


def parse_time(text: str) -> datetime:
    """Read an RFC 3339 time of any year, offset and precision; digits past microseconds are cut off.

    Raises:
        MalformedReplyError: it is not such a time.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise MalformedReplyError(f"not an RFC 3339 time: {text!r:.100}")
    year, month, day, hour, minute, second, fraction, zulu, sign, off_hours, off_minutes = match.groups()
    zone: timezone = UTC
    try:
        if not zulu:
            offset = timedelta(hours=int(off_hours), minutes=int(off_minutes))
            zone = timezone(-offset if sign == "-" else offset)
        micros = int((fraction or "0").ljust(6, "0")[:6])
        # A leap second has no datetime; the second before it is the nearest.
        moment = datetime(
            int(year), int(month), int(day), int(hour), int(minute), min(int(second), 59), micros, tzinfo=zone
        )
    except ValueError as error:
        raise MalformedReplyError(f"not an RFC 3339 time: {text!r:.100}: {error}") from None
    try:
        return moment.astimezone(UTC)
    except OverflowError:  # year 1 or 9999 with an offset that leaves datetime's range
        return moment
