"""The configuration of a service: frozen values that are checked when they are made."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncContextDecorator
from dataclasses import KW_ONLY, dataclass, field, fields, replace
from enum import Enum
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Literal,
    Protocol,
    TypeAlias,
    TypedDict,
    TypeVar,
    Unpack,
    cast,
    final,
    overload,
    runtime_checkable,
)

from . import _adr32, _subjects
from ._checks import WrongType, check_config, count_rule, flag_rule, function_rule, seconds_rule, text_rule
from ._codecs._codec import Codec, codec_rule
from ._codecs._json_codec import JSONCodec
from ._errors import ConfigError, shorten
from ._handlers import (
    NO_BODY,
    EndpointHandler,
    Handler,
    Signature,
    check_handler,
    check_hook_parameters,
    is_in_class_body,
    read_signature,
)
from ._instruments import Instrument
from ._schemas import EndpointSchema, check_no_clash, describe_endpoint, schema_subject
from ._statistics import Clock

if TYPE_CHECKING:
    from ._responses import EndpointStats
    from ._service._endpoint import Endpoint
    from ._service._request import Request
    from .abc import Connection

Middleware: TypeAlias = "Callable[[Request, Handler], Awaitable[bytes | None]]"
"""Wraps a handler: called with the request and the next handler, returns what the handler would."""

StatsHandler: TypeAlias = "Callable[[EndpointStats], Any | Awaitable[Any]]"
"""Gives an endpoint's ``data`` in STATS: any JSON value; may be ``async``."""

ErrorHandler: TypeAlias = "Callable[[Exception, Endpoint | None, Request | None], Awaitable[None] | None]"
"""Called with each error, the endpoint that it concerns, and the request, each ``None`` where there is none; may be ``async``."""

Lifespan: TypeAlias = "Callable[[Connection], AbstractAsyncContextManager[Any]]"
"""Sets up what handlers share, and takes it down: an async context manager function of the connection."""

HandlerT = TypeVar("HandlerT", bound="Callable[..., Awaitable[Any] | AsyncIterator[Any]]")
FunctionT = TypeVar("FunctionT", bound="Callable[..., Any]")


class _NoQueueGroup(Enum):
    NO_QUEUE_GROUP = "NO_QUEUE_GROUP"

    def __repr__(self) -> str:
        return "natsery.NO_QUEUE_GROUP"


NO_QUEUE_GROUP: Final = _NoQueueGroup.NO_QUEUE_GROUP
"""As a queue group: none at all, so that each instance gets every request."""

QueueGroup: TypeAlias = "str | Literal[_NoQueueGroup.NO_QUEUE_GROUP] | None"
"""A queue group's name, ``NO_QUEUE_GROUP``, or ``None`` to inherit the parent's."""

DEFAULT_PENDING_MESSAGES: Final = 65_536
"""Requests that an endpoint keeps waiting before it refuses more."""

DEFAULT_PENDING_BYTES: Final = 64 * 1024 * 1024
"""Bytes of payload that an endpoint keeps waiting before it refuses more."""


def _check_hook(where: str, function: object, *names: str) -> None:
    """Refuse what is not a function, or cannot be called with so many positional arguments."""
    check_config(where, function, function_rule)
    check_hook_parameters(where, function, *names)


def check_queue_group_choice(where: str, value: object) -> None:
    """Refuse what is no queue group's name, ``NO_QUEUE_GROUP``, or ``None`` to inherit."""
    if value is not None and value is not NO_QUEUE_GROUP:
        check_config(where, value, _subjects.queue_group_rule)


def _check_middlewares(where: str, value: object) -> tuple[Middleware, ...]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise ConfigError(where, value, "must be a sequence of middlewares")
    middlewares = tuple(value)
    for middleware in middlewares:
        _check_hook(where, middleware, "request", "handler")
    return middlewares


def check_instruments(where: str, value: object) -> tuple[Instrument, ...]:
    """Return instruments as a tuple; refuse what is none."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise ConfigError(where, value, "must be a sequence of natsery.Instrument")
    instruments = tuple(value)
    for each in instruments:
        if not isinstance(each, Instrument):
            hint = "; write Name(), with parentheses" if inspect.isclass(each) else ""
            raise ConfigError(where, each, f"must hold instances of natsery.Instrument{hint}")
    return instruments


@runtime_checkable
class Limiter(Protocol):
    """What bounds how many requests are handled at the same time: an ``anyio.CapacityLimiter``, or one of trio's."""

    async def acquire_on_behalf_of(self, borrower: object) -> None:
        """Wait for a token for a request."""

    def release_on_behalf_of(self, borrower: object) -> None:
        """Give it back."""


def limiter_rule(value: object) -> str | None:
    """What can be a limiter."""
    if isinstance(value, Limiter) and not inspect.isclass(value):
        return None
    return WrongType("must be a limiter; write anyio.CapacityLimiter(10)")


def _check_reply_prefixes(where: str, value: object) -> tuple[str, ...]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise ConfigError(where, value, "must be a sequence of subjects, such as ['$JS.ACK']")
    return tuple(check_config(where, prefix, _subjects.reply_prefix_rule) for prefix in value)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How requests are handled, where it is said: by an endpoint, or by a group for those inside that do not say."""

    queue_group: QueueGroup = None
    concurrency: int | None = None
    timeout: float | None = None
    pending_messages: int | None = None
    pending_bytes: int | None = None
    pending_seconds: float | None = None
    timeout_from_arrival: bool | None = None
    limiter: Limiter | None = None
    middlewares: Sequence[Middleware] = ()

    def _check(self, where: str) -> None:
        check_queue_group_choice(f"{where}.queue_group", self.queue_group)
        for name in ("timeout", "pending_seconds"):
            if getattr(self, name) is not None:
                check_config(f"{where}.{name}", getattr(self, name), seconds_rule(infinite=True))
        if self.timeout_from_arrival is not None:
            check_config(f"{where}.timeout_from_arrival", self.timeout_from_arrival, flag_rule)
        if self.limiter is not None:
            check_config(f"{where}.limiter", self.limiter, limiter_rule)
        for name in ("concurrency", "pending_messages", "pending_bytes"):
            if getattr(self, name) is not None:
                check_config(f"{where}.{name}", getattr(self, name), count_rule)
        object.__setattr__(self, "middlewares", _check_middlewares(f"{where}.middlewares", self.middlewares))

    def inside(self, outer: Limits) -> Limits:
        """Return what holds inside another group: each limit from the innermost that says it, middlewares of both."""
        names = [each.name for each in fields(Limits) if each.name != "middlewares"]
        said = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        inherited = {name: getattr(outer, name) for name in names}
        return Limits(**{**inherited, **said}, middlewares=(*outer.middlewares, *self.middlewares))


@final
@dataclass(frozen=True)
class EndpointConfig(Limits):
    """One endpoint: a name, a handler, and how requests reach it.

    Args:
        name: as discovery shows it.
        handler: what answers: an async function of the request, of the body, or of both; an async generator function, each
            ``yield`` of which is a reply; or with ``in_thread`` a plain function.
        subject: where it listens, below its groups' prefixes; wildcards allowed. The name if left out.
        queue_group: its own, ``NO_QUEUE_GROUP``, or inherited if left out.
        metadata: for discovery; copied.
        concurrency: how many requests it handles at the same time, at most; its groups' if left out, or 1.
        timeout: seconds that a handler may take; then the requester gets 504. Its groups' if left out; no limit if none of
            them says, or if it is ``math.inf``. A requester may give it less, as ``docs/deadlines.md`` says.
        timeout_from_arrival: whether ``timeout`` counts from the moment that a request arrives, and not from that when its
            handler is called.
        pending_messages: requests that may wait for a worker; more are refused with 503. Its groups' or the service's if left
            out.
        pending_bytes: bytes of payload and headers that may wait; more are refused with 503. Its groups' or the service's if
            left out.
        pending_seconds: seconds that a request may wait for its handler; then it is answered with 504 and not handled. Its
            groups' or the service's if left out; no limit if none of them says.
        limiter: bounds how many requests are handled at the same time by all endpoints that have the same one, besides
            ``concurrency``. Its groups' or the service's if left out.
        middlewares: around this handler, the first outermost, inside those of the service and of its groups.
        in_thread: whether the handler is a plain function, which runs in a worker thread, in as many at a time as
            ``concurrency`` says. A thread cannot be cancelled: when the handler's time is over, or the service stops, it is
            waited for; the function can look with ``anyio.from_thread.check_cancelled``.
        codec: how bodies of other types than ``bytes`` are written; the service's if left out.
        reply_prefixes: how further reply subjects begin that it answers. Requesters choose the reply subject, and replies
            below ``$SYS``, ``$JS``, ``$KV``, ``$O`` and ``$MQTT`` are not sent unless they are declared, as in
            ``reply_prefixes=["$JS.ACK"]``. Those below ``$SYS._INBOX``, where servers wait for answers, always are; those
            below ``$SRV`` and the service's prefix never are.

    Raises:
        ConfigError: a value breaks a rule; it names the field and the value.
    """

    name: str
    handler: EndpointHandler
    _: KW_ONLY
    subject: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    in_thread: bool = False
    codec: Codec | None = None
    reply_prefixes: Sequence[str] = ()
    _signature: Signature | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        where = "EndpointConfig"
        check_config(f"{where}.name", self.name, _adr32.name_rule)
        where = f"EndpointConfig({self.name!r})"
        check_config(f"{where}.in_thread", self.in_thread, flag_rule)
        check_handler(f"{where}.handler", self.handler, in_thread=self.in_thread)
        if self.subject is not None:
            check_config(f"{where}.subject", self.subject, _subjects.subject_rule)
        self._check(where)
        object.__setattr__(self, "metadata", _adr32.check_metadata(f"{where}.metadata", self.metadata))
        if self.codec is not None:
            check_config(f"{where}.codec", self.codec, codec_rule)
        object.__setattr__(
            self, "reply_prefixes", _check_reply_prefixes(f"{where}.reply_prefixes", self.reply_prefixes)
        )
        # In a class's body the function is declared before there is an instance; `as_config` sees what is served.
        if not is_in_class_body(self.handler):
            self._read_signature()

    def _read_signature(self) -> Signature:
        """Return how the handler is called."""
        if self._signature is None:
            where = f"EndpointConfig({self.name!r}).handler"
            object.__setattr__(self, "_signature", read_signature(where, self.handler, in_thread=self.in_thread))
        return cast("Signature", self._signature)


@final
@dataclass(frozen=True)
class GroupConfig(Limits):
    """Endpoints below one subject prefix; made by `group`."""

    name: str
    endpoints: tuple[EndpointConfig | GroupConfig, ...] = ()

    def __post_init__(self) -> None:
        check_config("group name", self.name, _subjects.prefix_rule)
        self._check(f"group({self.name!r})")
        object.__setattr__(self, "endpoints", _as_configs(f"group({self.name!r})", self.endpoints))


class GroupOptions(TypedDict, total=False):
    """What `group` takes by name."""

    queue_group: QueueGroup
    concurrency: int | None
    timeout: float | None
    pending_messages: int | None
    pending_bytes: int | None
    pending_seconds: float | None
    timeout_from_arrival: bool | None
    limiter: Limiter | None
    middlewares: Sequence[Middleware]


class EndpointOptions(GroupOptions, total=False):
    """What `endpoint` takes by name, besides ``in_thread``."""

    subject: str | None
    metadata: Mapping[str, str] | None
    codec: Codec | None
    reply_prefixes: Sequence[str]


EndpointLike: TypeAlias = "EndpointConfig | GroupConfig | EndpointHandler"
"""What stands in a list of endpoints: a configuration, a group, or an async function (decorated or not)."""

_ATTRIBUTE = "__natsery_endpoint__"


@overload
def endpoint(handler: HandlerT, /) -> HandlerT: ...
@overload
def endpoint(
    name: str | None = None, /, *, in_thread: Literal[False] = False, **options: Unpack[EndpointOptions]
) -> Callable[[HandlerT], HandlerT]: ...
@overload
def endpoint(
    name: str | None = None, /, *, in_thread: Literal[True], **options: Unpack[EndpointOptions]
) -> Callable[[FunctionT], FunctionT]: ...
def endpoint(first: Any = None, /, **options: Any) -> Any:  # the overloads above are its type
    """Declare an async function as an endpoint; it stays the plain function that it is.

    Used bare (``@endpoint``), or with the options of `EndpointConfig` (``@endpoint(concurrency=8)``), with another
    name than the function's in front (``@endpoint("add-all")``). The function then goes into a list of endpoints.

    Raises:
        ConfigError: a value breaks a rule; it names the field and the value.
    """
    if callable(first) or isinstance(first, classmethod):
        return _declare(cast("Any", first), None, {})
    if first is not None and not isinstance(first, str):
        raise ConfigError("endpoint name", first, "must be a str")
    _refuse_unknown("endpoint", options, _OPTIONS, _ENDPOINT_HINTS)
    return lambda handler: _declare(handler, first, options)


_OPTIONS = frozenset(EndpointConfig.__dataclass_fields__) - {"name", "handler", "_", "_signature"}

_GROUP_OPTIONS = frozenset(Limits.__dataclass_fields__)

_ENDPOINT_HINTS: Final = {
    "name": "write the name first, without name=, as in @endpoint('add')",
    "handler": "write @endpoint above the function, or EndpointConfig(name, handler) in the list of endpoints",
    "queue": "write queue_group=...",
    "reply_prefix": "write reply_prefixes=[...]",
}

_GROUP_HINTS: Final = {
    "queue": "write queue_group=...",
    "subject": "the prefix is its name",
    "prefix": "that is its name",
}


def _refuse_unknown(function: str, options: Mapping[str, Any], known: frozenset[str], hints: Mapping[str, str]) -> None:
    for name in options:
        if name in hints:
            raise TypeError(f"{function}() has no option {name!r}: {hints[name]}")
        if name not in known:
            raise TypeError(f"{function}() has no option {name!r}; it has {', '.join(sorted(known))}")


def _declare(handler: Any, name: str | None, options: Mapping[str, Any]) -> Any:
    check_handler("endpoint", handler, in_thread=options.get("in_thread") is True)
    declared = getattr(handler, _ATTRIBUTE, None)
    if isinstance(declared, EndpointConfig):
        again = "write EndpointConfig(name, handler) in the list of endpoints to declare it a second time"
        raise ConfigError("endpoint", handler, f"is declared already, as the endpoint {declared.name!r}; {again}")
    given = {key: value for key, value in options.items() if value is not None}
    config = EndpointConfig(_name_of(handler) if name is None else name, handler, **given)
    try:
        setattr(handler, _ATTRIBUTE, config)
        if isinstance(handler, staticmethod):
            setattr(handler.__func__, _ATTRIBUTE, config)  # which the class gives, and not this object
    except AttributeError:
        raise ConfigError("endpoint", handler, "cannot be marked; write EndpointConfig(name, handler)") from None
    return handler


def _name_of(handler: object) -> str:
    name = getattr(handler, "__name__", None)
    if not isinstance(name, str):
        raise ConfigError("endpoint", handler, "has no __name__; write EndpointConfig(name, handler)")
    return name


def group(name: str, endpoints: Iterable[EndpointLike] = (), **options: Unpack[GroupOptions]) -> GroupConfig:
    """Return endpoints (and groups of them) below a subject prefix, with the options that they share::

        natsery.group("math", [add, natsery.group("slow", [factorize], timeout=60)], timeout=1, middlewares=[log])

    Args:
        name: the prefix; an empty one adds nothing.
        endpoints: async functions, `EndpointConfig` and further groups.
        options: ``queue_group``, ``concurrency``, ``timeout``, ``timeout_from_arrival``, ``pending_messages``,
            ``pending_bytes``, ``pending_seconds``, ``limiter`` and ``middlewares``, as `EndpointConfig` has them. Each is for
            those inside that do not say it themselves, and the innermost group that says it counts; middlewares of all groups
            run, the outermost group's first, inside those of the service.

    Raises:
        ConfigError: a value breaks a rule; it names the field and the value.
    """
    _refuse_unknown("group", options, _GROUP_OPTIONS, _GROUP_HINTS)
    return GroupConfig(name, _as_configs(f"group({name!r})", endpoints), **options)


def _as_configs(where: str, endpoints: object) -> tuple[EndpointConfig | GroupConfig, ...]:
    if isinstance(endpoints, (str, bytes)) or not isinstance(endpoints, Iterable):
        raise ConfigError(f"{where}.endpoints", endpoints, "must be a sequence of endpoints")
    return tuple(as_config(each) for each in endpoints)


def as_config(value: Any) -> EndpointConfig | GroupConfig:
    """Return the configuration that a value in a list of endpoints stands for."""
    if isinstance(value, GroupConfig):
        return value
    declared = getattr(value, _ATTRIBUTE, None)
    if isinstance(value, EndpointConfig):
        config = value
    elif isinstance(declared, EndpointConfig):
        # A bound method is another object than the function that was decorated.
        config = declared if declared.handler is value else replace(declared, handler=value)
    elif callable(value):
        check_handler("endpoints", value, in_thread=False)  # before its name, which may be that of a lambda
        config = EndpointConfig(_name_of(value), value)
    else:
        raise ConfigError("endpoints", value, "must hold async functions, EndpointConfig and group(...)")
    config._read_signature()
    return config


def endpoint_of(handler: Any) -> EndpointConfig:
    """Return what a function is declared as, or would be in a list of endpoints."""
    if not callable(handler) and not isinstance(handler, EndpointConfig | GroupConfig):
        raise ConfigError("target", handler, "must be a name as a str, or the async function of an endpoint")
    config = as_config(handler)
    if not isinstance(config, EndpointConfig):
        raise ConfigError("handler", handler, "must be one endpoint, not a group")
    return config


def subject_in(service: ServiceConfig, endpoint: EndpointConfig) -> str:
    """Return the subject of an endpoint inside the groups of a service.

    Raises:
        TypeError: ``service`` is something else, such as a service's name.
        ConfigError: it is not there, or several times.
    """
    if not isinstance(service, ServiceConfig):
        raise TypeError(f"service: must be a natsery.ServiceConfig; got {shorten(service)}")
    subjects = [
        each.subject
        for each in service._placed()
        if each.config == endpoint or (each.config.handler == endpoint.handler and each.config.name == endpoint.name)
    ]
    if len(subjects) != 1:
        reason = f"must have the endpoint {endpoint.name!r} once; it is there {len(subjects)} times"
        raise ConfigError("service", service.name, reason)
    return subjects[0]


@final
@dataclass(frozen=True)
class PlacedEndpoint:
    """An endpoint inside its groups.

    Attributes:
        config: what it is.
        subject: its full subject.
        queue_group: the queue group that it ends up with, ``""`` for none.
        limits: what holds for it, its groups' included.
        schema: its types, if the service serves schemas.
    """

    config: EndpointConfig
    subject: str
    queue_group: str
    limits: Limits
    schema: EndpointSchema | None = None


def place(
    items: Iterable[EndpointConfig | GroupConfig], outer: Limits, *, control_prefix: str, prefix: str = ""
) -> Iterator[PlacedEndpoint]:
    """Yield the endpoints of a tree of groups, in order, with full subjects and final limits."""
    for item in items:
        limits = item.inside(outer)
        if isinstance(item, GroupConfig):
            yield from place(
                item.endpoints, limits, control_prefix=control_prefix, prefix=_subjects.join(prefix, item.name)
            )
            continue
        subject = _subjects.join(prefix, item.subject or item.name)
        if f"{subject}.".startswith(f"{control_prefix}."):
            raise ConfigError(
                f"EndpointConfig({item.name!r}).subject",
                subject,
                f"must not lie in the control plane {control_prefix!r}",
            )
        for each in item.reply_prefixes:
            if _subjects.overlaps_control_plane(each, control_prefix):
                field_name = f"EndpointConfig({item.name!r}).reply_prefixes"
                raise ConfigError(field_name, each, "must not hold control subjects, which services never reply to")
        queue = limits.queue_group
        final_queue = _adr32.DEFAULT_QUEUE_GROUP if queue is None else "" if queue is NO_QUEUE_GROUP else queue
        yield PlacedEndpoint(item, subject, final_queue, limits)


def with_schema(placed: PlacedEndpoint, service: ServiceConfig) -> PlacedEndpoint:
    """Return an endpoint with its schema, if the service serves schemas."""
    if not service.schemas:
        return placed
    config = placed.config
    check_no_clash(schema_subject(service.name, service.id or "*"), config.name, placed.subject, config.metadata)
    codec = config.codec or service.codec
    schema = describe_endpoint(config.name, placed.subject, config._read_signature(), codec, config.handler)
    return replace(placed, schema=schema)


def check_types(placed: PlacedEndpoint, default_codec: Codec) -> None:
    """Refuse types of bodies and results that an endpoint's codec cannot read or write."""
    config, signature = placed.config, placed.config._read_signature()
    codec = config.codec or default_codec
    for type_, make in ((signature.body, codec.decoder), (signature.result, codec.encoder)):
        if type_ is NO_BODY or type_ is bytes:
            continue
        try:
            make(type_)
        except TypeError as error:
            raise ConfigError(f"EndpointConfig({config.name!r}).handler", config.handler, str(error)) from None


@final
@dataclass(frozen=True)
class ServiceConfig:
    """One service: its names for discovery, its endpoints, and what all of them share.

    Args:
        name: the kind of the service, shared by all its instances.
        version: a semantic version.
        description: a text for a person; ``None`` counts as none, ``""``.
        metadata: for discovery; copied.
        queue_group: for the endpoints that choose none themselves; ``"q"`` if left out.
        endpoints: async functions, `EndpointConfig` and `group`.
        stats_handler: gives each endpoint's ``data`` in STATS; sync or async.
        error_handler: called with every error (exceptions of handlers and passed deadlines included), the endpoint concerned and
            the request, if it is one's; sync or async.
        middlewares: around every handler, the first outermost.
        prefix: the control prefix, ``"$SRV"`` unless a server uses another.
        id: the instance's id; a fresh one for each start if left out.
        clock: where times come from.
        pending_messages: requests that may wait, for endpoints that do not say.
        pending_bytes: bytes of payload and headers that may wait, for endpoints that do not say.
        pending_seconds: seconds that a request may wait, for endpoints that do not say; no limit if left out.
        limiter: an ``anyio.CapacityLimiter`` for the requests of all endpoints that have none of their own.
        lifespan: an async context manager function of the connection, for what handlers share. It is entered before the first
            subscription and left after the drain, and handlers reach what it yields as ``request.state``.
        codec: how bodies of other types than ``bytes`` are written; JSON if left out.
        schemas: whether it serves the JSON Schemas of its typed endpoints, for `ServiceClient.schema` and ``natsery schema``:
            on an endpoint of its own, ``_schema``, with the subject ``_SCHEMA.<name>.<id>``. ``docs/schemas.md`` has the rest.
        instruments: what is told of each request; without any, nothing is measured for them.
        backend: the event loop that its handlers need, ``"trio"`` or ``"asyncio"``, for ``natsery run`` to choose and ``serve``
            to check; any if left out.
        stats_details: whether STATS tells what ADR-32 has no field for: each endpoint's ``data`` gets the key ``"natsery"``, with
            ``failures`` (their number by `FailureCause`), ``malformed``, ``pending`` and ``in_flight``. Data of the stats handler
            that is no JSON object, or has that key, stays as it is.

    Raises:
        ConfigError: a value breaks a rule; it names the field and the value.

    Source: ADR-32, "Service configuration".
    """

    name: str
    version: str
    _: KW_ONLY
    description: str | None = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    queue_group: QueueGroup = None
    endpoints: Sequence[EndpointLike] = ()
    stats_handler: StatsHandler | None = None
    error_handler: ErrorHandler | None = None
    middlewares: Sequence[Middleware] = ()
    prefix: str = _adr32.DEFAULT_PREFIX
    id: str | None = None
    clock: Clock = field(default_factory=Clock)
    pending_messages: int = DEFAULT_PENDING_MESSAGES
    pending_bytes: int = DEFAULT_PENDING_BYTES
    pending_seconds: float | None = None
    limiter: Limiter | None = None
    lifespan: Lifespan | None = None
    codec: Codec = field(default_factory=JSONCodec)
    schemas: bool = False
    instruments: Sequence[Instrument] = ()
    backend: Literal["trio", "asyncio"] | None = None
    stats_details: bool = False

    def __post_init__(self) -> None:
        where = "ServiceConfig"
        check_config(f"{where}.name", self.name, _adr32.name_rule)
        check_config(f"{where}.version", self.version, _adr32.version_rule)
        if self.description is None:
            object.__setattr__(self, "description", "")
        check_config(f"{where}.description", self.description, text_rule)
        check_queue_group_choice(f"{where}.queue_group", self.queue_group)
        if self.stats_handler is not None:
            _check_hook(f"{where}.stats_handler", self.stats_handler, "stats")
        if self.error_handler is not None:
            _check_hook(f"{where}.error_handler", self.error_handler, "error", "endpoint", "request")
        check_config(f"{where}.prefix", self.prefix, _subjects.literal_subject_rule)
        if self.id is not None:
            check_config(f"{where}.id", self.id, _adr32.instance_id_rule)
        if not isinstance(self.clock, Clock):
            raise ConfigError(f"{where}.clock", self.clock, "must be a natsery.Clock")
        for name in ("pending_messages", "pending_bytes"):
            check_config(f"{where}.{name}", getattr(self, name), count_rule)
        if self.pending_seconds is not None:
            check_config(f"{where}.pending_seconds", self.pending_seconds, seconds_rule(infinite=True))
        if self.limiter is not None:
            check_config(f"{where}.limiter", self.limiter, limiter_rule)
        object.__setattr__(self, "metadata", _adr32.check_metadata(f"{where}.metadata", self.metadata))
        object.__setattr__(self, "middlewares", _check_middlewares(f"{where}.middlewares", self.middlewares))
        if self.lifespan is not None:
            given: object = self.lifespan
            if isinstance(given, AsyncContextDecorator):  # it can be called, too
                reason = "must be the function, not what it returns; write lifespan=name, without (...)"
                raise ConfigError(f"{where}.lifespan", given, reason)
            _check_hook(f"{where}.lifespan", self.lifespan, "connection")
            forgotten = (inspect.isasyncgenfunction, inspect.isgeneratorfunction, inspect.iscoroutinefunction)
            if any(is_one(self.lifespan) for is_one in forgotten):
                reason = "must be an async context manager function; write @asynccontextmanager above it"
                raise ConfigError(f"{where}.lifespan", self.lifespan, reason)
        check_config(f"{where}.codec", self.codec, codec_rule)
        check_config(f"{where}.schemas", self.schemas, flag_rule)
        check_config(f"{where}.stats_details", self.stats_details, flag_rule)
        if self.backend not in (None, "trio", "asyncio"):
            raise ConfigError(f"{where}.backend", self.backend, "must be 'trio' or 'asyncio'")
        object.__setattr__(self, "instruments", check_instruments(f"{where}.instruments", self.instruments))
        object.__setattr__(self, "endpoints", _as_configs(where, self.endpoints))
        self.placed_endpoints()

    @property
    def _limits(self) -> Limits:
        """What holds for all endpoints that do not say otherwise."""
        return Limits(
            queue_group=self.queue_group,
            pending_messages=self.pending_messages,
            pending_bytes=self.pending_bytes,
            pending_seconds=self.pending_seconds,
            limiter=self.limiter,
            middlewares=self.middlewares,
        )

    def _placed(self) -> tuple[PlacedEndpoint, ...]:
        """Return the endpoints without a look at their types, which were checked when this was made."""
        items = _as_configs("ServiceConfig", self.endpoints)
        return tuple(place(items, self._limits, control_prefix=self.prefix))

    def placed_endpoints(self) -> tuple[PlacedEndpoint, ...]:
        """Return the endpoints in order, with full subjects and final queue groups."""
        placed = self._placed()
        seen: set[tuple[str, str, str, int]] = set()
        for each in placed:
            check_types(each, self.codec)
            handler = each.config.handler
            # A method is another object each time that it is bound.
            what = id(getattr(handler, "__func__", handler)) ^ id(getattr(handler, "__self__", None))
            key = (each.config.name, each.subject, each.queue_group, what)
            if key in seen:
                reason = f"must hold it once; {each.subject!r} is there twice"
                raise ConfigError("ServiceConfig.endpoints", each.config.name, reason)
            seen.add(key)
        return tuple(with_schema(each, self) for each in placed)
