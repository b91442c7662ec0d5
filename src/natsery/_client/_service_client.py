"""`ServiceClient`: calls services, and finds them."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Literal, Never, TypeVar, Unpack, final, overload

from .. import abc
from .._adr32 import DEFAULT_PREFIX, Verb, control_subject, name_rule
from .._checks import check_argument, text_rule
from .._codecs._codec import Codec, codec_rule
from .._codecs._json_codec import JSONCodec
from .._endpoint_config import EndpointConfig, endpoint_of
from .._errors import BackendMismatchError, MalformedReplyError, NoRespondersError, printable, shorten
from .._fast_path import fast_path
from .._handlers import NO_BODY, EndpointHandler
from .._headers import Headers, HeadersInput
from .._instrumentation import check_instruments
from .._instruments import Instrument
from .._message import Message
from .._responses import EndpointInfo, ServiceInfo, ServicePing, ServiceStats
from .._schemas import ServiceSchema
from .._service_config import ServiceConfig, subject_in
from .._service_error import ServiceError
from .._stream_headers import DEFAULT_WINDOW
from .._subjects import literal_subject_rule
from .._usage import DEADLINE, block, describe_no_connection, explain_options, refuse_options
from ._bodies import Bodies
from ._caller import Caller
from ._directory import Directory
from ._replies import Replies, ReplyStream, open_replies
from ._schema_request import SchemaRequest
from ._stream import StreamOptions, open_stream

if TYPE_CHECKING:
    from .._service._request import Request

DEFAULT_WAIT = 2.0
"""Seconds that a collection takes at most."""

DEFAULT_STALL = 0.5
"""Seconds without a reply, after the first one, that end a collection."""

MAX_DESCRIPTION = 500
"""Characters of an error's description that are kept."""

_TYPES: dict[str, type[ServicePing]] = {Verb.PING: ServicePing, Verb.INFO: ServiceInfo, Verb.STATS: ServiceStats}

_OWN_SUBJECT: Final = (
    "that is the endpoint's own subject; if groups are around it, write service=..., the ServiceConfig"
)

_WAIT: Final = "write wait=..."
_COLLECT_HINTS: Final = {"timeout": _WAIT, "max_wait": _WAIT}
_REQUEST_HINTS: Final = {"timeout": DEADLINE, "payload": "write data=..."}

S = TypeVar("S", bound=ServicePing)
BodyT = TypeVar("BodyT")
ResultT = TypeVar("ResultT")


@final
class ServiceClient:
    """Calls services of any implementation, and finds out which there are::

        client = natsery.ServiceClient(nc)
        with anyio.fail_after(2):
            reply = await client.request("math.add", b"1+2")
        for each in await client.ping():
            print(each.name, each.id)

    It holds no task and no subscription, and remembers only the subjects of endpoints that were called by name; make as many
    as you like. Calls may be made concurrently.

    Args:
        nc: a connection.
        prefix: the control prefix of the services to find.
        codec: how bodies of other types than ``bytes`` are written and read; JSON if left out.
        instruments: what is told of each call.

    Raises:
        BackendMismatchError: ``nc`` is no connection of natsery's.
        TypeError, ValueError: ``prefix`` is no subject.

    **How a collection ends** (``ping``, ``info``, ``stats``, ``discover``, ``request_many``), whichever comes first:

    - ``wait`` seconds after its start, which may be ``math.inf``;
    - ``stall`` seconds after the last reply, once there was one; ``None`` for never;
    - with the ``count``-th reply, unreadable and repeated ones included; 1 when an instance's id is given;
    - at once if there are no responders.

    Its ``ended`` says which it was. The server drops nothing of this, but only those who answer in time are found. An instance
    that answers ``ping``, ``info``, ``stats`` or ``discover`` more than once is one instance: its first reply counts, and
    ``repeated`` has the others. The lists hold 65,536 replies and 64 MiB at most, and count what they drop.

    Source: ADR-32, "Discovery and status"; ADR-47, "Request many".
    """

    def __init__(
        self,
        nc: abc.Connection,
        *,
        prefix: str = DEFAULT_PREFIX,
        codec: Codec | None = None,
        instruments: Sequence[Instrument] = (),
    ) -> None:
        if not isinstance(nc, abc.Connection):
            raise BackendMismatchError(
                f"ServiceClient needs a connection of natsery's, not {describe_no_connection(nc)}"
            )
        self._nc = nc
        self._caller = Caller(nc, check_instruments("ServiceClient.instruments", instruments))
        self._prefix = check_argument("prefix", prefix, literal_subject_rule)
        self._bodies = Bodies(JSONCodec() if codec is None else check_argument("codec", codec, codec_rule))
        self._directory = Directory(
            lambda service: self.discover("INFO", service), self._prefix, fast_path(nc)._max_subjects
        )

    @overload
    async def request(self, subject: str, data: bytes = b"", *, headers: HeadersInput | None = None) -> Message: ...

    @overload
    async def request(
        self, subject: str, data: Any = b"", *, headers: HeadersInput | None = None, returns: type[ResultT]
    ) -> ResultT: ...

    async def request(  # noqa: D417  # the error explains unknown options
        self,
        subject: str,
        data: Any = b"",
        *,
        headers: HeadersInput | None = None,
        returns: Any = Message,
        **unknown: Never,
    ) -> Any:
        """Call a service and wait for its reply, without a limit: callers own deadlines.

        With ``returns``, the body may be of any type that the codec writes, and the reply is read as the type that is given::

            total = await client.request("math.add", AddRequest(1, 2), returns=int)

        Args:
            subject: where the request goes.
            data: its payload.
            headers: its headers.
            returns: the type of the reply, ``Message`` for the message as it came.

        Raises:
            ServiceError: the service answered with an error; its ``data`` and ``headers`` are those of the reply.
            MalformedReplyError: the reply does not fit ``returns``.
            NoRespondersError: there is no subscription to the subject.
            PublishDeniedError, SubscriptionDeniedError: this user may not publish there, or not receive replies.
            TypeError, ValueError, MaxPayloadError, OutboundBufferError, ConnectionClosedError: as for
                ``Connection.publish``.

        **Cancellation:** the request may have been sent; a late reply is dropped. A checkpoint.

        Source: ADR-32, "Error handling".
        """
        if unknown:
            refuse_options("request", unknown, _REQUEST_HINTS)
        read: Callable[[Message], Any] = _as_it_is
        if returns is not Message:
            # Before it is sent, which would be in vain with a type that nobody can read.
            read = self._bodies.reader(returns)
            data = self._bodies.write(data)
        elif type(data) is not bytes:
            data = _check_bytes("data", data)
        return await self._caller.call(subject, "", data, headers, read)

    @overload
    async def call(
        self, service: str, endpoint: str, data: bytes = b"", /, *, headers: HeadersInput | None = None
    ) -> Message: ...

    @overload
    async def call(
        self, service: str, endpoint: str, body: Any, /, *, headers: HeadersInput | None = None, returns: type[ResultT]
    ) -> ResultT: ...

    @overload
    async def call(
        self,
        handler: Callable[[Request[Any]], Awaitable[ResultT | None]],
        data: bytes = b"",
        /,
        *,
        service: str | ServiceConfig | None = None,
        headers: HeadersInput | None = None,
    ) -> ResultT: ...

    @overload
    async def call(
        self,
        handler: Callable[[Request[Any], BodyT], Awaitable[ResultT | None]],
        body: BodyT,
        /,
        *,
        service: str | ServiceConfig | None = None,
        headers: HeadersInput | None = None,
    ) -> ResultT: ...

    @overload
    async def call(
        self,
        handler: Callable[[BodyT], Awaitable[ResultT | None]],
        body: BodyT,
        /,
        *,
        service: str | ServiceConfig | None = None,
        headers: HeadersInput | None = None,
    ) -> ResultT: ...

    async def call(  # noqa: D417  # the error explains unknown options
        self,
        target: Any,
        *args: Any,
        service: str | ServiceConfig | None = None,
        headers: HeadersInput | None = None,
        returns: Any = Message,
        **unknown: Never,
    ) -> Any:
        """Call an endpoint by name, or by the function that answers it, and wait for its reply::

            reply = await client.call("calc", "add", b"1+2")
            total = await client.call("calc", "add", AddRequest(1, 2), returns=int)
            total = await client.call(add, AddRequest(1, 2))             # the types are those of the function
            total = await client.call(add, AddRequest(1, 2), service=config)

        By name, the subject is asked of the service (INFO) the first time, remembered, and asked again when nobody responds.
        By a function that is declared as an endpoint, which program and service share, body and reply are of its types; the
        subject is its own, or that which it has in ``service``: in groups of a `ServiceConfig`, or as a running service of
        that name says.

        Args:
            target: a service's name, or the function of an endpoint.
            args: the endpoint's name (or its whole subject) if ``target`` is a service's, then the body.
            service: the service of the function, if groups are around it there.
            headers: the request's headers.
            returns: the type of the reply, if ``target`` is a name.

        Raises:
            ServiceError: the service answered with an error. 400 if the body does not fit the endpoint's type.
            MalformedReplyError: the reply does not fit the type.
            NoRespondersError: there is no such service.
            UnknownEndpointError: the service has no such endpoint, or one with wildcards in its subject, or with a subject of
                servers, which begin with ``$``.
            TypeError, ValueError: as for ``request``, with the others that it raises.

        **Cancellation:** the request may have been sent; a late reply is dropped. A checkpoint.
        """
        if unknown:
            refuse_options("call", unknown, {"timeout": DEADLINE})
        if isinstance(target, str):
            if service is not None:
                raise TypeError("service: must be left out of a call by name, which begins with the service's name")
            if not args:
                raise TypeError(f"call({target!r}): write the endpoint's name after the service's")
            endpoint, *bodies = args
            body = _only_body(f"{target!r}, {endpoint!r}", bodies)
            return await self._call_by_name(target, endpoint, body, headers=headers, returns=returns)
        if returns is not Message:
            raise TypeError("returns: must be left out of a call by function, whose own type counts")
        body = _only_body(getattr(target, "__name__", "..."), args)
        return await self._call_by_handler(target, body, service=service, headers=headers)

    async def _call_by_name(
        self, service: str, endpoint: str, body: Any, *, headers: HeadersInput | None, returns: Any
    ) -> Any:
        check_argument("service", service, name_rule)
        check_argument("endpoint", endpoint, text_rule)
        read: Callable[[Message], Any] = _as_it_is if returns is Message else self._bodies.reader(returns)
        data = self._bodies.write(body) if returns is not Message else _check_bytes("body", body)
        kept = _kept(headers)

        async def send(subject: str) -> Any:
            return await self._caller.call(subject, f"{service}/{endpoint}", data, kept, read)

        return await self._directory.call(service, endpoint, send)

    async def _call_by_handler(
        self,
        handler: EndpointHandler,
        body: Any,
        *,
        service: str | ServiceConfig | None,
        headers: HeadersInput | None,
    ) -> Any:
        if service is not None and not isinstance(service, (str, ServiceConfig)):
            raise TypeError(f"service: must be a service's name, or its natsery.ServiceConfig; got {shorten(service)}")
        endpoint = endpoint_of(handler)
        if endpoint._read_signature().is_stream:
            raise TypeError(f"handler: {endpoint.name!r} is an async generator function; write client.stream(...)")
        data, read = self._as_declared(endpoint, body)
        if service is None:
            name = endpoint.name
        else:
            name = f"{service if isinstance(service, str) else service.name}/{endpoint.name}"

        kept = _kept(headers)

        async def send(subject: str) -> Any:
            return await self._caller.call(subject, name, data, kept, read)

        if isinstance(service, str):
            check_argument("service", service, name_rule)
            return await self._directory.call(service, endpoint.name, send)
        if service is not None:
            return await send(subject_in(service, endpoint))
        try:
            return await send(endpoint.subject or endpoint.name)
        except NoRespondersError as error:
            error.add_note(_OWN_SUBJECT)
            raise

    def _as_declared(self, endpoint: EndpointConfig, body: Any) -> tuple[Any, Callable[[Message], Any]]:
        """Return a body and a reader of replies of the types that an endpoint's function declares."""
        signature = endpoint._read_signature()
        bodies = self._bodies if endpoint.codec is None else Bodies(endpoint.codec)
        data = body if signature.body is NO_BODY else bodies.write(body, signature.body)
        return data, bodies.reader(signature.result)

    async def find_endpoint(self, service: str, endpoint: str) -> EndpointInfo:
        """Return how a running service describes one of its endpoints, as its first instance that has it answers.

        Args:
            service: the service's name.
            endpoint: the endpoint's name, or its whole subject.

        Raises:
            NoRespondersError: there is no such service.
            UnknownEndpointError: it has no such endpoint, several of that name, or one whose subject is no service's, such
                as those of servers, which begin with ``$``.
            TypeError, ValueError: a name breaks a rule.

        **Cancellation:** nothing is left behind. A checkpoint.
        """
        check_argument("service", service, name_rule)
        return await self._directory.find(service, check_argument("endpoint", endpoint, text_rule))

    async def schema(self, name: str, id: str | None = None, *, endpoint: str | None = None) -> ServiceSchema:
        """Return the types of a running service's endpoints, as the first instance that serves them answers.

        A service does so with ``ServiceConfig(schemas=True)``; ``docs/schemas.md`` says how those of other languages can. If
        the document is larger than one message may be, it is asked for endpoint by endpoint.

        Args:
            name: the service's name.
            id: an instance's id; any instance if left out.
            endpoint: the name, or the whole subject, of the endpoint that is wanted; all if left out.

        Raises:
            NoRespondersError: there is no such service.
            UnknownEndpointError: it serves no schemas, or has no such endpoint.
            ServiceError: the service answered with an error.
            MalformedReplyError: the answer is no such document, or is larger than 64 MiB in all.
            TypeError, ValueError: as for ``request``, with the others that it raises.

        **Cancellation:** nothing is left behind. A checkpoint.
        """
        check_argument("name", name, name_rule)
        if endpoint is not None:
            check_argument("endpoint", endpoint, text_rule)
        request = SchemaRequest(self.request, name)
        return await request.send(self.discover("INFO", name, id), endpoint)

    @explain_options(_COLLECT_HINTS | {"payload": "write data=..."})
    @block("client.request_many")
    @asynccontextmanager
    async def request_many(
        self,
        subject: str,
        data: bytes = b"",
        *,
        headers: HeadersInput | None = None,
        wait: float = DEFAULT_WAIT,
        stall: float | None = None,
        count: int | None = None,
        sentinel: bytes | Callable[[Message], bool] | None = None,
    ) -> AsyncIterator[ReplyStream[Message]]:
        """Send one request and take the replies to it as they come, for the length of a block::

            async with client.request_many("weather.all", wait=1, sentinel=b"") as replies:
                async for reply in replies:
                    ...

        Leaving the block early unsubscribes; nothing is left behind. Replies that carry an error are replies like others:
        `ServiceError.from_message` reads them.

        Args:
            subject: where the request goes.
            data: its payload.
            headers: its headers.
            wait: seconds in all, ``math.inf`` for no limit.
            stall: seconds without a reply, after the first one, that end it; ``None`` for no such end.
            count: replies that complete it; ``None`` for no such end.
            sentinel: the payload of the reply that marks the end, such as ``b""``, or a function that knows that reply; it
                is not among the replies.

        Raises:
            TypeError, ValueError, MaxPayloadError, OutboundBufferError, ConnectionClosedError: as for
                ``Connection.publish``.

        **Cancellation:** the request may have been sent; the subscription is gone. Entering is a checkpoint.

        Source: ADR-47, "Request many".
        """
        async with open_replies(
            self._nc,
            subject,
            data,
            headers,
            read=_as_it_is,
            wait=wait,
            stall=stall,
            count=count,
            sentinel=sentinel,
        ) as replies:
            yield replies

    @overload
    def stream(
        self,
        subject: str,
        data: bytes = b"",
        /,
        **options: Unpack[StreamOptions],
    ) -> AbstractAsyncContextManager[ReplyStream[Message]]: ...

    @overload
    def stream(
        self,
        subject: str,
        body: Any = b"",
        /,
        *,
        returns: type[ResultT],
        **options: Unpack[StreamOptions],
    ) -> AbstractAsyncContextManager[ReplyStream[ResultT]]: ...

    @overload
    def stream(
        self,
        handler: Callable[[Request[Any]], AsyncIterator[ResultT]],
        data: bytes = b"",
        /,
        *,
        service: ServiceConfig | None = None,
        **options: Unpack[StreamOptions],
    ) -> AbstractAsyncContextManager[ReplyStream[ResultT]]: ...

    @overload
    def stream(
        self,
        handler: Callable[[Request[Any], BodyT], AsyncIterator[ResultT]],
        body: BodyT,
        /,
        *,
        service: ServiceConfig | None = None,
        **options: Unpack[StreamOptions],
    ) -> AbstractAsyncContextManager[ReplyStream[ResultT]]: ...

    @overload
    def stream(
        self,
        handler: Callable[[BodyT], AsyncIterator[ResultT]],
        body: BodyT,
        /,
        *,
        service: ServiceConfig | None = None,
        **options: Unpack[StreamOptions],
    ) -> AbstractAsyncContextManager[ReplyStream[ResultT]]: ...

    @explain_options({"timeout": "write wait=...", "max_wait": "write wait=...", "sentinel": "use request_many for it"})
    def stream(
        self,
        target: Any,
        body: Any = b"",
        /,
        *,
        service: ServiceConfig | None = None,
        returns: Any = Message,
        headers: HeadersInput | None = None,
        window: int = DEFAULT_WINDOW,
        wait: float = math.inf,
        stall: float | None = None,
        count: int | None = None,
    ) -> AbstractAsyncContextManager[ReplyStream[Any]]:
        """Call a service that streams its replies, and take them as they come, for the length of a block::

            async with client.stream("shop.items", returns=Item) as items:
                async for item in items:
                    ...

        The replies are in order and whole: iteration ends after the last one, and raises if one is missing. A service of
        natsery's sends no more than ``window`` replies beyond those that were read, and stops when the block is left. Services
        of other implementations are read as well if they end with an empty reply, which ADR-47 calls the sentinel.

        Args:
            target: the subject, or the async generator function of an endpoint, whose types count then.
            body: the request's payload, or a value of the type that the function takes.
            service: the service of the function, if groups are around it there.
            returns: the type of each reply, if ``target`` is a subject; ``Message`` for messages as they came.
            headers: the request's headers.
            window: replies that may be on their way at once, up to 65,536.
            wait: seconds in all, ``math.inf`` for no limit.
            stall: seconds without a reply, after the first one, that end it; ``None`` for no such end.
            count: replies that complete it; ``None`` for no such end.

        Raises:
            ServiceError: the service answered with an error; raised by the iteration after the replies before it.
            NoRespondersError: there is no subscription to the subject; raised by the iteration.
            MalformedReplyError: a reply does not fit the type; raised by the iteration.
            ConnectionLostError: the connection ended, or a reply is missing; raised by the iteration.
            PublishDeniedError: this user may not publish to the subject, or not acknowledge replies; raised by the iteration.
            TypeError, ValueError, MaxPayloadError, OutboundBufferError, ConnectionClosedError: as for
                ``Connection.publish``.

        **Cancellation:** no reply is lost; the service is told to stop when the block is left. Entering is a checkpoint.

        Source: docs/streams.md; ADR-47, "Request many".
        """
        if isinstance(target, str):
            if service is not None:
                raise TypeError("service: must be left out where the subject is given")
            subject, name, hint = target, "", None
            read: Callable[[Message], Any] = _as_it_is if returns is Message else self._bodies.reader(returns)
            data = self._bodies.write(body) if returns is not Message else _check_bytes("body", body)
        else:
            endpoint = endpoint_of(target)
            if not endpoint._read_signature().is_stream:
                raise TypeError(f"handler: {endpoint.name!r} returns one reply; write client.call(...)")
            subject = endpoint.subject or endpoint.name if service is None else subject_in(service, endpoint)
            name = endpoint.name if service is None else f"{service.name}/{endpoint.name}"
            data, read = self._as_declared(endpoint, body)
            hint = _OWN_SUBJECT if service is None else None
        return _open_stream(
            self._nc,
            subject,
            data,
            self._caller.stream(subject, name, headers, len(data)),
            decode=read,
            window=window,
            wait=wait,
            stall=stall,
            count=count,
            hint=hint,
        )

    @overload
    def discover(
        self,
        verb: Literal["PING", Verb.PING],
        name: str | None = None,
        id: str | None = None,
        *,
        wait: float = ...,
        stall: float | None = ...,
        count: int | None = ...,
    ) -> AbstractAsyncContextManager[ReplyStream[ServicePing]]: ...

    @overload
    def discover(
        self,
        verb: Literal["INFO", Verb.INFO],
        name: str | None = None,
        id: str | None = None,
        *,
        wait: float = ...,
        stall: float | None = ...,
        count: int | None = ...,
    ) -> AbstractAsyncContextManager[ReplyStream[ServiceInfo]]: ...

    @overload
    def discover(
        self,
        verb: Literal["STATS", Verb.STATS],
        name: str | None = None,
        id: str | None = None,
        *,
        wait: float = ...,
        stall: float | None = ...,
        count: int | None = ...,
    ) -> AbstractAsyncContextManager[ReplyStream[ServiceStats]]: ...

    @explain_options(_COLLECT_HINTS)
    def discover(
        self,
        verb: str,
        name: str | None = None,
        id: str | None = None,
        *,
        wait: float = DEFAULT_WAIT,
        stall: float | None = DEFAULT_STALL,
        count: int | None = None,
    ) -> AbstractAsyncContextManager[ReplyStream[Any]]:  # the overloads say of what
        """Ask services who they are and take the answers as they come, for the length of a block::

            async with client.discover("STATS", "calc") as replies:
                async for stats in replies:
                    ...

        Leaving the block early unsubscribes; nothing is left behind. A reply that cannot be read is skipped and noted in
        ``replies.malformed``, and a further one of the same instance in ``replies.repeated``.

        Args:
            verb: ``"PING"``, ``"INFO"`` or ``"STATS"``.
            name: a service's name; all services if left out.
            id: an instance's id; needs ``name``.
            wait: seconds in all, ``math.inf`` for no limit.
            stall: seconds without a reply, after the first one, that end it; ``None`` for no such end.
            count: replies that complete it, unreadable and repeated ones included; 1 if ``id`` is given.

        Raises:
            TypeError, ValueError: an argument breaks a rule; raised here, not when the block is entered.

        **Cancellation:** the subscription is gone. Entering is a checkpoint.

        Source: ADR-32, "Discovery and status".
        """
        subject = control_subject(verb, name, id, prefix=self._prefix)
        return self._discover(
            subject, _TYPES[verb], wait=wait, stall=stall, count=1 if id is not None and count is None else count
        )

    def _discover(
        self, subject: str, kind: type[S], *, wait: float, stall: float | None, count: int | None
    ) -> AbstractAsyncContextManager[ReplyStream[S]]:
        return _open_discovery(
            self._nc,
            subject,
            b"",
            None,
            read=lambda message: _read_answer(kind, message),
            wait=wait,
            stall=stall,
            count=count,
            sentinel=None,
            identify=_instance_of,
        )

    async def ping(
        self,
        name: str | None = None,
        id: str | None = None,
        *,
        wait: float = DEFAULT_WAIT,
        stall: float | None = DEFAULT_STALL,
        count: int | None = None,
        **unknown: Never,
    ) -> Replies[ServicePing]:
        """Return the identity of each instance. Takes and raises what ``discover`` and its stream do. A checkpoint."""
        if unknown:
            refuse_options("ping", unknown, _COLLECT_HINTS)
        async with self.discover("PING", name, id, wait=wait, stall=stall, count=count) as replies:
            return await replies._collect()

    async def info(
        self,
        name: str | None = None,
        id: str | None = None,
        *,
        wait: float = DEFAULT_WAIT,
        stall: float | None = DEFAULT_STALL,
        count: int | None = None,
        **unknown: Never,
    ) -> Replies[ServiceInfo]:
        """Return the description of each instance. Takes and raises what ``discover`` and its stream do. A checkpoint."""
        if unknown:
            refuse_options("info", unknown, _COLLECT_HINTS)
        async with self.discover("INFO", name, id, wait=wait, stall=stall, count=count) as replies:
            return await replies._collect()

    async def stats(
        self,
        name: str | None = None,
        id: str | None = None,
        *,
        wait: float = DEFAULT_WAIT,
        stall: float | None = DEFAULT_STALL,
        count: int | None = None,
        **unknown: Never,
    ) -> Replies[ServiceStats]:
        """Return the statistics of each instance. Takes and raises what ``discover`` and its stream do. A checkpoint."""
        if unknown:
            refuse_options("stats", unknown, _COLLECT_HINTS)
        async with self.discover("STATS", name, id, wait=wait, stall=stall, count=count) as replies:
            return await replies._collect()


_open_discovery = block("client.discover")(open_replies)
_open_stream = block("client.stream")(open_stream)


def _as_it_is(message: Message) -> Message:
    return message


def _kept(headers: HeadersInput | None) -> HeadersInput | None:
    """Return headers that can be read twice, for a call by name that is sent again where an endpoint has moved to."""
    return None if headers is None else Headers(headers)


def _check_bytes(name: str, value: Any) -> Any:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return value
    own = "write text.encode(), or " if isinstance(value, str) else "write "
    hint = f"{own}returns=..., the type of the reply, to have the body encoded"
    raise TypeError(f"{name}: must be bytes, not {type(value).__name__}; {hint}")


def _only_body(called: str, bodies: Sequence[Any]) -> Any:
    if len(bodies) > 1:
        raise TypeError(f"call({called}) takes one body, not {len(bodies)}; headers go into headers=...")
    return bodies[0] if bodies else b""


def _instance_of(reply: ServicePing) -> tuple[str, str]:
    return reply.name, reply.id


def _read_answer(kind: type[S], message: Message) -> S:
    error = ServiceError.from_message(message)
    if error is not None:
        description = error.description[:MAX_DESCRIPTION]
        text = f"a service answered with the error {error.code}: {printable(description)}"
        # Without its payload, which may be large: errors are kept.
        raise MalformedReplyError(text) from ServiceError(error.code, description)
    return kind.from_json(message.data)
