"""The configuration of a service: frozen values that are checked when they are made."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from enum import Enum
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar, cast, final, overload

from . import _adr32, _subjects
from ._checks import check_config, count_rule, function_rule, seconds_rule, text_rule
from ._errors import ConfigError
from ._statistics import Clock

if TYPE_CHECKING:
    from ._responses import EndpointStats
    from ._service._endpoint import Endpoint
    from ._service._request import Request

Handler: TypeAlias = "Callable[[Request], Awaitable[bytes | None]]"
"""Answers one request: returns the reply, or ``None`` after ``request.respond…``, or to stay silent."""

Middleware: TypeAlias = "Callable[[Request, Handler], Awaitable[bytes | None]]"
"""Wraps a handler: called with the request and the next handler, returns what the handler would."""

StatsHandler: TypeAlias = "Callable[[EndpointStats], Any | Awaitable[Any]]"
"""Gives an endpoint's ``data`` in STATS: any JSON value; may be ``async``."""

ErrorHandler: TypeAlias = "Callable[[Exception, Endpoint | None], Awaitable[None] | None]"
"""Called with each error and the endpoint it concerns (``None`` for the service as a whole); may be ``async``."""

HandlerT = TypeVar("HandlerT", bound="Callable[..., Awaitable[bytes | None]]")


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


def _check_handler(where: str, handler: Any) -> None:
    if not callable(handler):
        raise ConfigError(where, handler, "must be an async function")
    if inspect.isclass(handler):
        raise ConfigError(where, handler, "must be an async function, not a class; write an instance's bound method")
    if getattr(handler, "__name__", None) == "<lambda>":
        raise ConfigError(where, handler, "must be an async function, not a lambda; write 'async def name(request):'")
    called = handler
    while isinstance(called, functools.partial):
        called = called.func
    if not inspect.isroutine(called):
        called = type(called).__call__
    if inspect.isasyncgenfunction(called) or inspect.isgeneratorfunction(called):
        raise ConfigError(where, handler, "must be an async function without yield")
    # A decorator may return a plain function that returns what the async one inside it does.
    is_async = any(map(inspect.iscoroutinefunction, (handler, called, inspect.unwrap(called))))
    if isinstance(called, FunctionType | MethodType) and not is_async:
        raise ConfigError(where, handler, "must be an async function; write 'async def'")
    # In a class's body the function is declared before there is an instance; `as_config` sees what is served.
    if "." not in getattr(handler, "__qualname__", "").rpartition("<locals>.")[2]:
        _check_parameters(where, handler, "request")


def _check_parameters(where: str, function: Any, *names: str) -> None:
    """Refuse a function that cannot be called with so many positional arguments."""
    try:
        # That of the function itself: a decorator may give the one inside it other arguments.
        signature = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):
        return  # it has none that can be found out, as some functions written in C
    try:
        signature.bind(*names)
    except TypeError:
        parameters = list(signature.parameters)
        is_method = parameters[:1] == ["self"] and len(parameters) == len(names) + 1
        hint = "; pass a bound method, as instance.method" if is_method else ""
        taken = f"({', '.join(names)})"
        raise ConfigError(where, function, f"must take {taken}, and takes {signature}{hint}") from None


def _check_hook(where: str, function: object, *names: str) -> None:
    """Refuse what is not a function, or cannot be called with so many positional arguments."""
    check_config(where, function, function_rule)
    _check_parameters(where, function, *names)


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


@final
@dataclass(frozen=True)
class EndpointConfig:
    """One endpoint: a name, a handler, and how requests reach it.

    Args:
        name: as discovery shows it.
        handler: the async function that answers.
        subject: where it listens, below its groups' prefixes; wildcards allowed. The name if left out.
        queue_group: its own, ``NO_QUEUE_GROUP``, or inherited if left out.
        metadata: for discovery; copied.
        concurrency: how many requests it handles at the same time, at most.
        timeout: seconds that a handler may take; then the requester gets 504. No limit if left out.
        pending_messages: requests that may wait for a worker; more are refused with 503. The service's if left out.
        pending_bytes: bytes of payload and headers that may wait; more are refused with 503. The service's if left out.
        middlewares: around this handler, the first outermost, inside those of the service.

    Raises:
        ConfigError: a value breaks a rule; it names the field and the value.
    """

    name: str
    handler: Handler
    _: KW_ONLY
    subject: str | None = None
    queue_group: QueueGroup = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    concurrency: int = 1
    timeout: float | None = None
    pending_messages: int | None = None
    pending_bytes: int | None = None
    middlewares: Sequence[Middleware] = ()

    def __post_init__(self) -> None:
        where = "EndpointConfig"
        check_config(f"{where}.name", self.name, _adr32.name_rule)
        where = f"EndpointConfig({self.name!r})"
        _check_handler(f"{where}.handler", self.handler)
        if self.subject is not None:
            check_config(f"{where}.subject", self.subject, _subjects.subject_rule)
        check_queue_group_choice(f"{where}.queue_group", self.queue_group)
        check_config(f"{where}.concurrency", self.concurrency, count_rule)
        if self.timeout is not None:
            check_config(f"{where}.timeout", self.timeout, seconds_rule())
        for name in ("pending_messages", "pending_bytes"):
            if getattr(self, name) is not None:
                check_config(f"{where}.{name}", getattr(self, name), count_rule)
        object.__setattr__(self, "metadata", _adr32.check_metadata(f"{where}.metadata", self.metadata))
        object.__setattr__(self, "middlewares", _check_middlewares(f"{where}.middlewares", self.middlewares))


@final
@dataclass(frozen=True)
class GroupConfig:
    """Endpoints below one subject prefix; made by `group`."""

    name: str
    endpoints: tuple[EndpointConfig | GroupConfig, ...] = ()
    _: KW_ONLY
    queue_group: QueueGroup = None

    def __post_init__(self) -> None:
        check_config("group name", self.name, _subjects.prefix_rule)
        check_queue_group_choice(f"group({self.name!r}).queue_group", self.queue_group)
        object.__setattr__(self, "endpoints", _as_configs(f"group({self.name!r})", self.endpoints))


EndpointLike: TypeAlias = "EndpointConfig | GroupConfig | Handler"
"""What stands in a list of endpoints: a configuration, a group, or an async function (decorated or not)."""

_ATTRIBUTE = "__natsery_endpoint__"


@overload
def endpoint(handler: HandlerT, /) -> HandlerT: ...
@overload
def endpoint(
    name: str | None = None,
    /,
    *,
    subject: str | None = None,
    queue_group: QueueGroup = None,
    metadata: Mapping[str, str] | None = None,
    concurrency: int = 1,
    timeout: float | None = None,
    pending_messages: int | None = None,
    pending_bytes: int | None = None,
    middlewares: Sequence[Middleware] = (),
) -> Callable[[HandlerT], HandlerT]: ...
def endpoint(first: Any = None, /, **options: Any) -> Any:  # the overloads above are its type
    """Declare an async function as an endpoint; it stays the plain function that it is.

    Used bare (``@endpoint``), or with the options of `EndpointConfig` (``@endpoint(concurrency=8)``), with another
    name than the function's in front (``@endpoint("add-all")``). The function then goes into a list of endpoints.

    Raises:
        ConfigError: a value breaks a rule; it names the field and the value.
    """
    if callable(first):
        return _declare(cast("Any", first), None, {})
    if first is not None and not isinstance(first, str):
        raise ConfigError("endpoint name", first, "must be a str")
    _refuse_unknown(options)
    return lambda handler: _declare(handler, first, options)


_OPTIONS = frozenset(EndpointConfig.__dataclass_fields__) - {"name", "handler", "_"}

_ENDPOINT_HINTS: Final = {
    "name": "write the name first, without name=, as in @endpoint('add')",
    "handler": "write @endpoint above the function, or EndpointConfig(name, handler) in the list of endpoints",
    "queue": "write queue_group=...",
}


def _refuse_unknown(options: Mapping[str, Any]) -> None:
    for name in options:
        if name in _ENDPOINT_HINTS:
            raise TypeError(f"endpoint() has no option {name!r}: {_ENDPOINT_HINTS[name]}")
        if name not in _OPTIONS:
            raise TypeError(f"endpoint() has no option {name!r}; it has {', '.join(sorted(_OPTIONS))}")


def _declare(handler: Any, name: str | None, options: Mapping[str, Any]) -> Any:
    _check_handler("endpoint", handler)
    declared = getattr(handler, _ATTRIBUTE, None)
    if isinstance(declared, EndpointConfig):
        again = "write EndpointConfig(name, handler) in the list of endpoints to declare it a second time"
        raise ConfigError("endpoint", handler, f"is declared already, as the endpoint {declared.name!r}; {again}")
    given = {key: value for key, value in options.items() if value is not None}
    config = EndpointConfig(_name_of(handler) if name is None else name, handler, **given)
    try:
        setattr(handler, _ATTRIBUTE, config)
        if isinstance(handler, (staticmethod, classmethod)):
            setattr(handler.__func__, _ATTRIBUTE, config)  # which the class gives, and not this object
    except AttributeError:
        raise ConfigError("endpoint", handler, "cannot be marked; write EndpointConfig(name, handler)") from None
    return handler


def _name_of(handler: object) -> str:
    name = getattr(handler, "__name__", None)
    if not isinstance(name, str):
        raise ConfigError("endpoint", handler, "has no __name__; write EndpointConfig(name, handler)")
    return name


def group(name: str, endpoints: Iterable[EndpointLike] = (), *, queue_group: QueueGroup = None) -> GroupConfig:
    """Return endpoints (and groups of them) below a subject prefix.

    Args:
        name: the prefix; an empty one adds nothing.
        endpoints: async functions, `EndpointConfig` and further groups.
        queue_group: for those inside that choose none themselves.

    Raises:
        ConfigError: a value breaks a rule; it names the field and the value.
    """
    return GroupConfig(name, _as_configs(f"group({name!r})", endpoints), queue_group=queue_group)


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
        _check_handler("endpoints", value)  # before its name, which may be that of a lambda
        config = EndpointConfig(_name_of(value), cast("Handler", value))
    else:
        raise ConfigError("endpoints", value, "must hold async functions, EndpointConfig and group(...)")
    _check_parameters(f"EndpointConfig({config.name!r}).handler", config.handler, "request")
    return config


@final
@dataclass(frozen=True)
class PlacedEndpoint:
    """An endpoint with its full subject and the queue group that it ends up with (``""`` for none)."""

    config: EndpointConfig
    subject: str
    queue_group: str


def inherit(own: QueueGroup, parent: QueueGroup) -> QueueGroup:
    """Return the queue group at one level: its own choice, else the parent's."""
    return parent if own is None else own


def place(
    items: Iterable[EndpointConfig | GroupConfig],
    *,
    control_prefix: str,
    prefix: str = "",
    queue_group: QueueGroup = None,
) -> Iterator[PlacedEndpoint]:
    """Yield the endpoints of a tree of groups, in order, with full subjects and final queue groups."""
    for item in items:
        queue = inherit(item.queue_group, queue_group)
        if isinstance(item, GroupConfig):
            yield from place(
                item.endpoints,
                control_prefix=control_prefix,
                prefix=_subjects.join(prefix, item.name),
                queue_group=queue,
            )
            continue
        subject = _subjects.join(prefix, item.subject or item.name)
        if f"{subject}.".startswith(f"{control_prefix}."):
            raise ConfigError(
                f"EndpointConfig({item.name!r}).subject",
                subject,
                f"must not lie in the control plane {control_prefix!r}",
            )
        final_queue = _adr32.DEFAULT_QUEUE_GROUP if queue is None else "" if queue is NO_QUEUE_GROUP else queue
        yield PlacedEndpoint(item, subject, final_queue)


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
        error_handler: called with every error (exceptions of handlers included) and the endpoint concerned; sync or async.
        middlewares: around every handler, the first outermost.
        prefix: the control prefix, ``"$SRV"`` unless a server uses another.
        id: the instance's id; a fresh one for each start if left out.
        clock: where times come from.
        pending_messages: requests that may wait, for endpoints that do not say.
        pending_bytes: bytes of payload and headers that may wait, for endpoints that do not say.

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
            _check_hook(f"{where}.error_handler", self.error_handler, "error", "endpoint")
        check_config(f"{where}.prefix", self.prefix, _subjects.literal_subject_rule)
        if self.id is not None:
            check_config(f"{where}.id", self.id, _adr32.instance_id_rule)
        if not isinstance(self.clock, Clock):
            raise ConfigError(f"{where}.clock", self.clock, "must be a natsery.Clock")
        for name in ("pending_messages", "pending_bytes"):
            check_config(f"{where}.{name}", getattr(self, name), count_rule)
        object.__setattr__(self, "metadata", _adr32.check_metadata(f"{where}.metadata", self.metadata))
        object.__setattr__(self, "middlewares", _check_middlewares(f"{where}.middlewares", self.middlewares))
        object.__setattr__(self, "endpoints", _as_configs(where, self.endpoints))
        self.placed_endpoints()

    def placed_endpoints(self) -> tuple[PlacedEndpoint, ...]:
        """Return the endpoints in order, with full subjects and final queue groups."""
        items = _as_configs("ServiceConfig", self.endpoints)
        placed = tuple(place(items, control_prefix=self.prefix, queue_group=self.queue_group))
        seen: set[tuple[str, str, str, int]] = set()
        for each in placed:
            handler = each.config.handler
            # A method is another object each time that it is bound.
            what = id(getattr(handler, "__func__", handler)) ^ id(getattr(handler, "__self__", None))
            key = (each.config.name, each.subject, each.queue_group, what)
            if key in seen:
                reason = f"must hold it once; {each.subject!r} is there twice"
                raise ConfigError("ServiceConfig.endpoints", each.config.name, reason)
            seen.add(key)
        return placed
