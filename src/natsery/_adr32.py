"""ADR-32's constants, what it allows as a name, and the form of control subjects."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final, final

from ._checks import WrongType, check_argument, check_config, text_rule
from ._errors import ConfigError
from ._subjects import literal_subject_rule

DEFAULT_PREFIX: Final = "$SRV"
DEFAULT_QUEUE_GROUP: Final = "q"
ERROR_HEADER: Final = "Nats-Service-Error"
ERROR_CODE_HEADER: Final = "Nats-Service-Error-Code"

PING_RESPONSE_TYPE: Final = "io.nats.micro.v1.ping_response"
INFO_RESPONSE_TYPE: Final = "io.nats.micro.v1.info_response"
STATS_RESPONSE_TYPE: Final = "io.nats.micro.v1.stats_response"

BAD_REQUEST: Final = 400
INTERNAL_ERROR: Final = (500, "Internal Server Error")
TOO_LARGE: Final = (500, "Maximum Payload Exceeded")
OVERLOADED: Final = (503, "Service Overloaded")
REQUESTER_SILENT: Final = (408, "No Acknowledgement")
STOPPING: Final = (503, "Service Stopping")
DEADLINE_EXCEEDED: Final = (504, "Deadline Exceeded")


@final
class Verb(StrEnum):
    """The three verbs of the control plane."""

    PING = "PING"
    INFO = "INFO"
    STATS = "STATS"


_NO_METADATA: Final[Mapping[str, str]] = MappingProxyType({})

_NAME = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?"
    r"(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?",
    re.ASCII,
)


def name_rule(value: object) -> str | None:
    """A service's or an endpoint's name."""
    wrong = "must be one or more of A-Z, a-z, 0-9, '-' and '_'"
    if not isinstance(value, str):
        return WrongType(wrong)
    return None if _NAME.fullmatch(value) else wrong


def version_rule(value: object) -> str | None:
    """A version as Semantic Versioning 2.0 has it."""
    wrong = "must be a semantic version such as '1.0.0' or '2.1.3-alpha.1+build.5'"
    if not isinstance(value, str):
        return WrongType(wrong)
    return None if _SEMVER.fullmatch(value) else wrong


def instance_id_rule(value: object) -> str | None:
    """An instance's id: one token of a subject."""
    wrong = literal_subject_rule(value)
    return "must be a single token, without dots" if wrong is None and "." in str(value) else wrong


def check_metadata(field: str, value: object) -> Mapping[str, str]:
    """Return metadata, text to text, as a read-only copy.

    Raises:
        ConfigError: it is not that.
    """
    if value is None:
        return _NO_METADATA
    if not isinstance(value, Mapping):
        raise ConfigError(field, value, "must be a mapping of str to str")
    if not value:
        return _NO_METADATA
    for key, item in value.items():
        check_config(f"{field} key", key, text_rule)
        check_config(f"{field}[{key!r}]", item, text_rule)
    return MappingProxyType(dict(value))


def verb_rule(value: object) -> str | None:
    """The name of a verb."""
    return None if value in Verb.__members__ else "must be one of PING, INFO and STATS"


def control_subject(verb: str, name: str | None = None, id: str | None = None, *, prefix: str = DEFAULT_PREFIX) -> str:  # noqa: A002
    """Return the control subject of a verb for all services, for those of one name, or for one instance.

    Args:
        verb: ``"PING"``, ``"INFO"`` or ``"STATS"``.
        name: a service's name; all services if left out.
        id: an instance's id; needs ``name``.
        prefix: the control prefix of the services addressed.

    Raises:
        TypeError, ValueError: a part breaks ADR-32's rules, or an id is given without a name.

    Source: ADR-32, "Discovery and status".
    """
    check_argument("verb", verb, verb_rule)
    parts = [check_argument("prefix", prefix, literal_subject_rule), str(verb)]
    if name is not None:
        parts.append(check_argument("name", name, name_rule))
    if id is not None:
        if name is None:
            raise ValueError(f"id: needs the service's name as well; got {id!r}")
        parts.append(check_argument("id", id, instance_id_rule))
    return ".".join(parts)
