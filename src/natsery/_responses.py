"""The replies to PING, INFO and STATS: written exactly as ADR-32 has them, read from every known implementation."""

from __future__ import annotations

import json
import math
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, ClassVar, Self, final

from ._adr32 import INFO_RESPONSE_TYPE, PING_RESPONSE_TYPE, STATS_RESPONSE_TYPE
from ._errors import MalformedReplyError

DETAILS_KEY = "natsery"
"""Where a service of natsery puts details into the data of STATS."""


def _empty() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class ServicePing:
    """The identity of a service instance: the reply to PING, and the head of the other two.

    Attributes:
        version: its semantic version; ``""`` if the reply has none.
        metadata: text to text; other values that a reply has are their JSON text.
        raw: the JSON text that it was read from, with what natsery does not know; ``""`` if it was not read.
    """

    response_type: ClassVar[str] = PING_RESPONSE_TYPE

    name: str
    id: str
    version: str
    metadata: Mapping[str, str] = field(default_factory=_empty)
    raw: str = field(default="", init=False, repr=False, compare=False)

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
        return write_reply(self.to_dict())

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read a reply of any implementation: a field that is missing, null or no such value gets its empty value.

        What is nested deeper than 100 levels may be cut off, and bytes that are not UTF-8 are replaced.

        Raises:
            MalformedReplyError: it is not JSON, is of another type, or lacks a name or an id. The error names the service and
                the instance as far as they can be read.
        """
        text = data.decode("utf-8-sig", errors="replace")
        try:
            try:
                value = _DECODER.decode(text)
            except RecursionError:
                text = _without_depth(text)
                value = _DECODER.decode(text)
        except (ValueError, RecursionError) as error:
            raise MalformedReplyError(f"{_who_in(text)}not JSON: {error}") from None
        reader = Reader(value)
        kind = reader.value.get("type")
        if isinstance(kind, str) and kind != cls.response_type:
            raise MalformedReplyError(f"{reader.who()}type is {reprlib.repr(kind)}, not {cls.response_type!r}")
        reply = cls(**cls._fields(reader))
        object.__setattr__(reply, "raw", text)
        return reply

    @classmethod
    def _fields(cls, reader: Reader) -> dict[str, Any]:
        return {
            "name": reader.required_text("name"),
            "id": reader.required_text("id"),
            "version": reader.text("version"),
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
    def _fields(cls, reader: Reader) -> dict[str, Any]:
        return {
            **super()._fields(reader),
            "description": reader.text("description"),
            "endpoints": tuple(
                EndpointInfo(
                    name=each.required_text("name"),
                    subject=each.required_text("subject"),
                    queue_group=each.text("queue_group"),
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
        failures: ``num_errors`` by cause; elsewhere than in the service's own process, only if it has ``stats_details``.
        malformed: messages that were no requests and are not in ``num_requests``; known where ``failures`` are.
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
        started: when it started or was last reset, in UTC; in the year 1 if that is unknown.
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
    def _fields(cls, reader: Reader) -> dict[str, Any]:
        return {
            **super()._fields(reader),
            "started": reader.time("started"),
            "endpoints": tuple(_endpoint_stats(each) for each in reader.endpoints()),
        }


def _endpoint_stats(reader: Reader) -> EndpointStats:
    requests = reader.integer("num_requests") or 0
    total, mean = _times(reader, requests)
    data = writable_json(reader.value.get("data"), MAX_DEPTH)
    details = _object(_object(data).get(DETAILS_KEY))
    failures = _object(details.get("failures"))
    return EndpointStats(
        name=reader.required_text("name"),
        subject=reader.required_text("subject"),
        queue_group=reader.text("queue_group"),
        num_requests=requests,
        num_errors=reader.integer("num_errors") or 0,
        last_error=reader.text("last_error"),
        processing_time=total,
        average_processing_time=mean,
        data=data,
        failures=MappingProxyType({cause: count for cause, value in failures.items() if (count := _integer(value))}),
        malformed=_integer(details.get("malformed")) or 0,
    )


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _times(reader: Reader, requests: int) -> tuple[int, int]:
    """Return total and mean, each calculated from the other where an implementation leaves it out."""
    total = reader.duration("processing_time")
    mean = reader.duration("average_processing_time")
    if total is None:
        total = (mean or 0) * requests
    if mean is None:
        mean = total // requests if requests else 0
    return total, mean


class Reader:
    """Takes the fields out of one JSON object, each with the leniency that it needs: one odd value hides no other."""

    def __init__(self, value: object) -> None:
        if not isinstance(value, dict):
            raise MalformedReplyError("reply is not a JSON object")
        self.value: dict[str, Any] = value

    def required_text(self, key: str) -> str:
        value = self.value.get(key)
        if not isinstance(value, str) or not value:
            raise MalformedReplyError(f"{self.who()}reply.{key} is not a non-empty string: {reprlib.repr(value)}")
        return _writable(value)

    def text(self, key: str) -> str:
        value = self.value.get(key)
        return "" if value is None else _as_text(value)

    def integer(self, key: str) -> int | None:
        """Return a whole number, ``None`` if there is none or it is not one."""
        return _integer(self.value.get(key))

    def duration(self, key: str) -> int | None:
        """Return nanoseconds, ``None`` if there are none; given as a number, or as text such as ``"1m2.5s"``."""
        value = self.value.get(key)
        return _read_duration(value) if isinstance(value, str) else self.integer(key)

    def time(self, key: str) -> datetime:
        """Return a time, `UNKNOWN_TIME` if there is none or it is not one."""
        return parse_time(self.text(key))

    def metadata(self) -> Mapping[str, str]:
        value = self.value.get("metadata")
        if not isinstance(value, dict):
            return _empty()
        return MappingProxyType({_writable(key): "" if item is None else _as_text(item) for key, item in value.items()})

    def endpoints(self) -> list[Reader]:
        """Return the endpoints that have a name and a subject; some implementations send an object instead of an array."""
        value = self.value.get("endpoints")
        items = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
        wanted = ("name", "subject")
        return [
            Reader(item)
            for item in items
            if isinstance(item, dict) and all(isinstance(item.get(key), str) and item[key] for key in wanted)
        ]

    def who(self) -> str:
        """Return the beginning of an error: which service and instance this is, as far as that can be read."""
        return _who(self.value.get("name"), self.value.get("id"))


def _who(*parts: object) -> str:
    known = [each[:100] for each in parts if isinstance(each, str) and each]
    return f"{_writable(' '.join(known))!r}: " if known else ""


def _who_in(text: str) -> str:
    """Return the same of a text that is not JSON: what stands before the first value that holds others."""
    found = [re.match(rf'\s*\{{[^\[{{]*?"{key}"\s*:\s*"([^"\\]+)"', text) for key in ("name", "id")]
    return _who(*(each and each[1] for each in found))


def _read_int(digits: str) -> int | None:
    return int(digits) if len(digits) <= _MAX_DIGITS else None


def _read_float(digits: str) -> float | None:
    value = float(digits)
    return value if math.isfinite(value) else None


def _without_depth(text: str) -> str:
    """Return a JSON text with null in place of what is nested too deeply."""
    kept: list[str] = []
    depth = start = 0
    for match in _BRACKET.finditer(text):
        if match[0] in ("[", "{"):
            depth += 1
            if depth == MAX_DEPTH + 1:
                kept += text[start : match.start()], "null"
        elif match[0] in ("]", "}"):
            if depth == MAX_DEPTH + 1:
                start = match.end()
            depth -= 1
    return "".join((*kept, text[start:]))


def _integer(value: object) -> int | None:
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return _writable(value)
    return json.dumps(writable_json(value, MAX_DEPTH), ensure_ascii=False)


def _writable(text: str) -> str:
    return text.encode(errors="replace").decode()


def writable_json(value: Any, depth: int) -> Any:
    """Return a JSON value that can be written as JSON again: without lone surrogates, and nested no deeper than that."""
    if isinstance(value, str):
        return _writable(value)
    if isinstance(value, list):
        return [writable_json(each, depth - 1) for each in value] if depth else None
    if isinstance(value, dict):
        return {_writable(key): writable_json(each, depth - 1) for key, each in value.items()} if depth else None
    return value


def _read_duration(text: str) -> int | None:
    """Return the nanoseconds of a duration as Go writes it, ``None`` if it is not one."""
    parts = _DURATION_PART.findall(text) if len(text) <= _MAX_DURATION else []
    if not parts or "".join(number + unit for number, unit in parts) != text.removeprefix("-"):
        return None
    nanoseconds = round(sum(float(number) * _UNITS[unit] for number, unit in parts))
    return -nanoseconds if text.startswith("-") else nanoseconds


def write_reply(value: dict[str, Any]) -> bytes:
    """Return the JSON object of a reply as compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def check_json(value: Any) -> None:
    """Raise ``TypeError`` or ``ValueError`` if a value cannot be written as JSON."""
    json.dumps(value, allow_nan=False, ensure_ascii=False).encode()


UNKNOWN_TIME = datetime(1, 1, 1, tzinfo=UTC)
"""The time that stands for an unknown one; it is what Go writes for none."""

_LAST_TIME = datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)

_DECODER = json.JSONDecoder(strict=False, parse_int=_read_int, parse_float=_read_float, parse_constant=lambda _: None)
"""Neither a control character in a text nor a number of any size hides the rest."""

MAX_DEPTH = 100
"""How deeply the values of a reply may be nested."""

# A text that does not end is matched, too: else its end would be searched for from each of its escaped quotes.
_BRACKET = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)

_MAX_DIGITS = 300
"""Digits of the largest number that is read; there is none that large among the figures of a service."""

_MAX_DURATION = 100
"""Characters of a duration; there is none that long."""

_UNITS = {"ns": 1, "us": 1e3, "µs": 1e3, "μs": 1e3, "ms": 1e6, "s": 1e9, "m": 60e9, "h": 3600e9}
_DURATION_PART = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,20})?)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_TIME = re.compile(r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:)(\d\d)((?:\.\d+)?(?:[Zz]|[+-]\d\d:?\d\d))", re.ASCII)


def format_time(moment: datetime) -> str:
    """Return a time as RFC 3339 in UTC with a ``Z`` and microseconds."""
    try:
        utc = moment.astimezone(UTC).replace(tzinfo=None)
    except OverflowError:  # at an end of the calendar, with an offset
        return moment.isoformat(timespec="microseconds")
    return f"{utc.isoformat(timespec='microseconds')}Z"


def parse_time(text: str) -> datetime:
    """Return an RFC 3339 time of any offset and precision in UTC, its digits past microseconds cut off.

    What is no such time is `UNKNOWN_TIME`; one outside of the calendar is the nearest of the calendar.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        return UNKNOWN_TIME
    minute, second, rest = match.groups()
    try:
        # A leap second has no datetime; the second before it is the nearest.
        moment = datetime.fromisoformat(f"{minute}{min(second, '59')}{rest.upper()}")
    except ValueError:
        return UNKNOWN_TIME
    try:
        return moment.astimezone(UTC)
    except OverflowError:  # an offset leads out of the calendar
        return UNKNOWN_TIME if moment.year == 1 else _LAST_TIME
