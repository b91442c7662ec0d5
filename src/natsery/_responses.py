"""The replies to PING, INFO and STATS: written exactly as ADR-32 has them, read from every known implementation."""

from __future__ import annotations

import json
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
            value = json.loads(data)
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
                for each in reader.objects("endpoints")
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
                    num_requests=each.integer("num_requests"),
                    num_errors=each.integer("num_errors"),
                    last_error=each.text("last_error", ""),
                    processing_time=each.integer("processing_time"),
                    average_processing_time=each.integer("average_processing_time"),
                    data=each.value.get("data"),
                )
                for each in reader.objects("endpoints")
            ),
        }


class _Reader:
    """Takes the fields out of one JSON object, each with the leniency that it needs."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise MalformedReplyError(f"{where} is not a JSON object")
        self.value: dict[str, Any] = value
        self._where = where

    def required_text(self, key: str) -> str:
        value = self.value.get(key)
        if not isinstance(value, str) or not value:
            raise self._wrong(key, "a non-empty string")
        return value

    def text(self, key: str, default: str) -> str:
        value = self.value.get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self._wrong(key, "a string")
        return value

    def integer(self, key: str) -> int:
        value = self.value.get(key)
        if value is None:
            return 0
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value or abs(value) == _INFINITY:
            raise self._wrong(key, "a number")
        return int(value)

    def metadata(self) -> Mapping[str, str]:
        value = self.value.get("metadata")
        if value is None:
            return _empty()
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise self._wrong("metadata", "an object of strings")
        return MappingProxyType(value)

    def objects(self, key: str) -> list[_Reader]:
        value = self.value.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self._wrong(key, "an array")
        return [_Reader(item, f"{self._where}.{key}[{index}]") for index, item in enumerate(value)]

    def _wrong(self, key: str, wanted: str) -> MalformedReplyError:
        return MalformedReplyError(f"{self._where}.{key} is not {wanted}: {self.value.get(key)!r:.100}")


def check_json(value: Any) -> None:
    """Raise ``TypeError`` or ``ValueError`` if a value cannot be written as JSON."""
    json.dumps(value, allow_nan=False, ensure_ascii=False).encode()


_INFINITY = float("inf")
_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?(?:([Zz])|([+-])(\d\d):?(\d\d))",
    re.ASCII,
)


def format_time(moment: datetime) -> str:
    """Return a time as RFC 3339 in UTC with a ``Z`` and microseconds."""
    utc = moment.astimezone(UTC).replace(tzinfo=None)
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
