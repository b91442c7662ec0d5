"""The configuration of a service, and where its groups place its endpoints: frozen values that are checked when they are made."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncContextDecorator
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, final

from . import _adr32, _subjects
from ._checks import check_config, count_rule, flag_rule, text_rule
from ._codecs._codec import Codec, codec_rule
from ._codecs._json_codec import JSONCodec
from ._endpoint_config import EndpointConfig, EndpointLike, GroupConfig, as_configs
from ._errors import ConfigError, shorten
from ._handlers import NO_BODY
from ._instrumentation import check_instruments
from ._instruments import Instrument
from ._limits import (
    NO_QUEUE_GROUP,
    Limiter,
    Limits,
    Middleware,
    QueueGroup,
    check_hook,
)
from ._schemas import EndpointSchema, check_no_clash, describe_endpoint, schema_subject
from ._statistics import Clock

if TYPE_CHECKING:
    from ._responses import EndpointStats
    from ._service._endpoint import Endpoint
    from ._service._request import Request
    from .abc import Connection

StatsHandler: TypeAlias = "Callable[[EndpointStats], Any | Awaitable[Any]]"
"""Gives an endpoint's ``data`` in STATS: any JSON value; may be ``async``."""

ErrorHandler: TypeAlias = "Callable[[Exception, Endpoint | None, Request | None], Awaitable[None] | None]"
"""Called with each error, the endpoint that it concerns, and the request, each ``None`` where there is none; may be ``async``."""

Lifespan: TypeAlias = "Callable[[Connection], AbstractAsyncContextManager[Any]]"
"""Sets up what handlers share, and takes it down: an async context manager function of the connection."""

DEFAULT_PENDING_MESSAGES: Final = 65_536
"""Requests that an endpoint keeps waiting before it refuses more."""

DEFAULT_PENDING_BYTES: Final = 64 * 1024 * 1024
"""Bytes of payload and headers that an endpoint keeps waiting before it refuses more."""


def subject_in(service: ServiceConfig, endpoint: EndpointConfig) -> str:
    """Return the subject of an endpoint inside the groups of a service.

    Raises:
        TypeError: ``service`` is something else, such as a service's name.
        ConfigError: it is not there, or several times.
    """
    if not isinstance(service, ServiceConfig):
        raise TypeError(f"service: must be a natsery.ServiceConfig; got {shorten(service)}")
    namesakes = service._placed_by_name.get(endpoint.name, ())
    subjects = [each.subject for each in namesakes if each.config.handler == endpoint.handler]
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
        if self.stats_handler is not None:
            check_hook(f"{where}.stats_handler", self.stats_handler, "stats")
        if self.error_handler is not None:
            check_hook(f"{where}.error_handler", self.error_handler, "error", "endpoint", "request")
        check_config(f"{where}.prefix", self.prefix, _subjects.literal_subject_rule)
        if self.id is not None:
            check_config(f"{where}.id", self.id, _adr32.instance_id_rule)
        if not isinstance(self.clock, Clock):
            raise ConfigError(f"{where}.clock", self.clock, "must be a natsery.Clock")
        for name in ("pending_messages", "pending_bytes"):
            check_config(f"{where}.{name}", getattr(self, name), count_rule)
        limits = self._limits
        limits._check(where)
        object.__setattr__(self, "middlewares", limits.middlewares)
        object.__setattr__(self, "metadata", _adr32.check_metadata(f"{where}.metadata", self.metadata))
        if self.lifespan is not None:
            given: object = self.lifespan
            if isinstance(given, AsyncContextDecorator):  # it can be called, too
                reason = "must be the function, not what it returns; write lifespan=name, without (...)"
                raise ConfigError(f"{where}.lifespan", given, reason)
            check_hook(f"{where}.lifespan", self.lifespan, "connection")
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
        object.__setattr__(self, "endpoints", as_configs(where, self.endpoints))
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

    def placed_endpoints(self) -> tuple[PlacedEndpoint, ...]:
        """Return the endpoints in order, with full subjects and final queue groups."""
        return self._placed

    @cached_property
    def _placed_by_name(self) -> Mapping[str, Sequence[PlacedEndpoint]]:
        """The endpoints of each name, for clients."""
        by_name: dict[str, list[PlacedEndpoint]] = {}
        for each in self._placed:
            by_name.setdefault(each.config.name, []).append(each)
        return by_name

    @cached_property
    def _placed(self) -> tuple[PlacedEndpoint, ...]:
        """The endpoints, checked once: when this is made."""
        items = as_configs("ServiceConfig", self.endpoints)
        placed = tuple(place(items, self._limits, control_prefix=self.prefix))
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
