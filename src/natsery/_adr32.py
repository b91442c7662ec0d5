"""ADR-32 in one place: its constants, what it allows as a name, and the form of control subjects and error replies."""

from __future__ import annotations

import re
import secrets
import string
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final, final

from ._errors import MAX_ERROR_CODE, ConfigError, ServiceError, check_error
from ._message import Headers, HeadersInput

DEFAULT_PREFIX: Final = "$SRV"
DEFAULT_QUEUE_GROUP: Final = "q"
ERROR_HEADER: Final = "Nats-Service-Error"
ERROR_CODE_HEADER: Final = "Nats-Service-Error-Code"

PING_RESPONSE_TYPE: Final = "io.nats.micro.v1.ping_response"
INFO_RESPONSE_TYPE: Final = "io.nats.micro.v1.info_response"
STATS_RESPONSE_TYPE: Final = "io.nats.micro.v1.stats_response"

INTERNAL_ERROR: Final = (500, "Internal Server Error")
TOO_LARGE: Final = (500, "Maximum Payload Exceeded")
OVERLOADED: Final = (503, "Service Overloaded")
STOPPING: Final = (503, "Service Stopping")
DEADLINE_EXCEEDED: Final = (504, "Deadline Exceeded")


@final
class Verb(StrEnum):
    """The three verbs of the control plane."""

    PING = "PING"
    INFO = "INFO"
    STATS = "STATS"


_NAME = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?"
    r"(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?",
    re.ASCII,
)
_BLANK_OR_CONTROL = re.compile(r"[\s\x00-\x1f\x7f-\x9f]")


def check_name(field: str, value: object) -> str:
    """A service's or an endpoint's name."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ConfigError(field, value, "must be one or more of A-Z, a-z, 0-9, '-' and '_'")
    return value


def check_version(field: str, value: object) -> str:
    """A version as Semantic Versioning 2.0 has it."""
    if not isinstance(value, str) or not _SEMVER.fullmatch(value):
        raise ConfigError(field, value, "must be a semantic version such as '1.0.0' or '2.1.3-alpha.1+build.5'")
    return value


def _check_text(field: str, value: object) -> str:
    if not isinstance(value, str):
        raise ConfigError(field, value, "must be a str")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ConfigError(field, value, "must be writable as UTF-8") from None
    return value


_PLAIN_SUBJECT = re.compile(r"[!-)+-\-/-=?-~]+(?:\.[!-)+-\-/-=?-~]+)*")
"""Printable ASCII without blanks and wildcards: nearly every subject, known at one look."""


def check_subject(field: str, value: object, *, wildcards: bool = True) -> str:
    """A subject: tokens between dots, none empty, ``*`` as a whole token, ``>`` as the last."""
    if type(value) is str and _PLAIN_SUBJECT.fullmatch(value):
        return value
    subject = _check_text(field, value)
    if not subject:
        raise ConfigError(field, value, "must not be empty")
    if _BLANK_OR_CONTROL.search(subject):
        raise ConfigError(field, value, "must not contain white space or control characters")
    tokens = subject.split(".")
    for index, token in enumerate(tokens):
        if not token:
            raise ConfigError(field, value, "must not contain an empty token (a dot at an edge, or two in a row)")
        if not wildcards and ("*" in token or ">" in token):
            raise ConfigError(field, value, "must not contain a wildcard")
        if "*" in token and token != "*":
            raise ConfigError(field, value, "may contain '*' only as a whole token")
        if ">" in token and (token != ">" or index != len(tokens) - 1):
            raise ConfigError(field, value, "may contain '>' only as the last token")
    return subject


def check_group(field: str, value: object) -> str:
    """A group's name: a subject prefix without ``>``; empty adds nothing."""
    name = _check_text(field, value)
    if not name:
        return name
    if ">" in name:
        raise ConfigError(field, value, "must not contain '>'")
    return check_subject(field, value)


def check_queue_group(field: str, value: object) -> str:
    """A queue group's name."""
    name = _check_text(field, value)
    if not name:
        raise ConfigError(field, value, "must not be empty; use natsery.NO_QUEUE_GROUP to switch queueing off")
    if _BLANK_OR_CONTROL.search(name):
        raise ConfigError(field, value, "must not contain white space or control characters")
    return name


def check_metadata(field: str, value: object) -> Mapping[str, str]:
    """Metadata: copied, read-only, text to text."""
    if value is None:
        return MappingProxyType({})
    if not isinstance(value, Mapping):
        raise ConfigError(field, value, "must be a mapping of str to str")
    for key, item in value.items():
        _check_text(f"{field} key", key)
        _check_text(f"{field}[{key!r}]", item)
    return MappingProxyType(dict(value))


def check_description(field: str, value: object) -> str:
    """A text for a person; may be empty."""
    return _check_text(field, value)


def control_subject(verb: str, name: str | None = None, id: str | None = None, *, prefix: str = DEFAULT_PREFIX) -> str:  # noqa: A002
    """The control subject of a verb for all services, for those of one name, or for one instance.

    Args:
        verb: ``"PING"``, ``"INFO"`` or ``"STATS"``.
        name: a service's name; all services if left out.
        id: an instance's id; needs ``name``.
        prefix: the control prefix of the services addressed.

    Raises:
        ConfigError: a part breaks ADR-32's rules, or an id is given without a name.

    Source: ADR-32, "Discovery and status".
    """
    if verb not in Verb.__members__:
        raise ConfigError("verb", verb, "must be one of PING, INFO and STATS")
    check_subject("prefix", prefix, wildcards=False)
    parts = [prefix, str(verb)]
    if name is not None:
        parts.append(check_name("name", name))
    if id is not None:
        if name is None:
            raise ConfigError("id", id, "needs the service's name as well")
        parts.append(check_instance_id("id", id))
    return ".".join(parts)


def check_instance_id(field: str, value: object) -> str:
    """An instance id: one token of a subject."""
    subject = check_subject(field, value, wildcards=False)
    if "." in subject:
        raise ConfigError(field, value, "must be a single token, without dots")
    return subject


_NUID_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_NUID_LENGTH = 22


def new_id() -> str:
    """A fresh identifier in the form of a NUID: 22 characters of base 62."""
    return "".join(secrets.choice(_NUID_ALPHABET) for _ in range(_NUID_LENGTH))


def error_headers(code: int, description: str, headers: HeadersInput | None = None) -> Headers:
    """The headers of an error reply; they win over ``headers``, which is not changed.

    Control characters in the description become spaces and what UTF-8 cannot hold becomes ``?``, so that an error
    always reaches its reader.

    Raises:
        ConfigError: ``code``, ``description`` or one of ``headers`` breaks a rule.

    Source: ADR-32, "Error handling".
    """
    check_error(code, description)
    others = [
        (name, value)
        for name, value in Headers(headers).multi_items()
        if name.lower() not in (ERROR_HEADER.lower(), ERROR_CODE_HEADER.lower())
    ]
    text = _CONTROL.sub(" ", description).encode(errors="replace").decode().strip()
    return Headers([(ERROR_HEADER, text or _NO_DESCRIPTION), (ERROR_CODE_HEADER, str(code)), *others])


_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_CODE = re.compile(r"[0-9]{1,10}", re.ASCII)
_NO_DESCRIPTION = "unknown error"


def service_error(data: bytes, headers: Headers) -> ServiceError | None:
    """The error that a reply carries, or ``None`` if it is a good reply.

    A reply is an error when either error header is there; a code that is not a number reads as 500, its text kept.
    """
    if ERROR_HEADER not in headers and ERROR_CODE_HEADER not in headers:
        return None
    raw_code = headers.get(ERROR_CODE_HEADER, "").strip()
    description = headers.get(ERROR_HEADER, "").strip()
    if _CODE.fullmatch(raw_code) and int(raw_code) <= MAX_ERROR_CODE:
        return ServiceError(int(raw_code), description or _NO_DESCRIPTION, data=data, headers=headers)
    text = f"{raw_code}: {description}" if raw_code and description else raw_code or description
    return ServiceError(500, text or _NO_DESCRIPTION, data=data, headers=headers)


_NEVER_ANSWERED = ("$SRV.", "$SYS.", "$JS.")


def forbidden_reply_prefixes(prefix: str) -> tuple[str, ...]:
    """How the subjects begin to which a service with this control prefix never replies."""
    return (*_NEVER_ANSWERED, f"{prefix}.")


def is_answerable(reply: str, forbidden: tuple[str, ...]) -> bool:
    """Whether a reply may be sent there: a plain subject that aims at no control subject.

    A requester chooses the reply subject and the service publishes to it with its own permissions, so one message with
    a reply of ``$SRV.PING`` would make services answer one another.
    """
    return not (
        reply.startswith(forbidden)
        or "*" in reply
        or ">" in reply
        or ".." in reply
        or reply[0] == "."
        or reply[-1] == "."
    )
