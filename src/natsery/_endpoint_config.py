"""The configuration of endpoints and groups: frozen values that are checked when they are made."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeVar, Unpack, cast, final, overload

from . import _adr32, _subjects
from ._checks import check_config, flag_rule
from ._codecs._codec import Codec, codec_rule
from ._errors import ConfigError
from ._handlers import EndpointHandler, Signature, check_handler, is_in_class_body, read_signature
from ._limits import GroupOptions, Limits

if TYPE_CHECKING:
    pass

HandlerT = TypeVar("HandlerT", bound="Callable[..., Awaitable[Any] | AsyncIterator[Any]]")
FunctionT = TypeVar("FunctionT", bound="Callable[..., Any]")


def _check_reply_prefixes(where: str, value: object) -> tuple[str, ...]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise ConfigError(where, value, "must be a sequence of subjects, such as ['$JS.ACK']")
    return tuple(check_config(where, prefix, _subjects.reply_prefix_rule) for prefix in value)


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
        object.__setattr__(self, "endpoints", as_configs(f"group({self.name!r})", self.endpoints))


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
    return GroupConfig(name, as_configs(f"group({name!r})", endpoints), **options)


def as_configs(where: str, endpoints: object) -> tuple[EndpointConfig | GroupConfig, ...]:
    if isinstance(endpoints, (str, bytes)) or not isinstance(endpoints, Iterable):
        raise ConfigError(f"{where}.endpoints", endpoints, "must be a sequence of endpoints, such as [add]")
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
