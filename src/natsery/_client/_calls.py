"""Calls: what one answer is waited for, a reply or what a service says of its endpoints."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Never, TypeVar, overload

from .._adr32 import name_rule
from .._checks import check_argument, text_rule
from .._endpoint_config import endpoint_of
from .._errors import NoRespondersError, shorten
from .._exports import show_methods_as_of
from .._headers import Headers, HeadersInput
from .._message import Message
from .._responses import EndpointInfo
from .._schemas import ServiceSchema
from .._service_config import ServiceConfig
from .._usage import DEADLINE, refuse_options
from ._bodies import Bodies, Read
from ._caller import Caller
from ._directory import Directory
from ._discovery import Discovery
from ._schema_request import SchemaRequest
from ._target import target_of

if TYPE_CHECKING:
    from .._service._request import Request

_REQUEST_HINTS: Final = {"timeout": DEADLINE, "payload": "write data=..."}

BodyT = TypeVar("BodyT")
ResultT = TypeVar("ResultT")


@show_methods_as_of("ServiceClient")
class Calls(Discovery):
    """The calls of a `ServiceClient`."""

    _caller: Caller
    _bodies: Bodies
    _directory: Directory

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
        data, read = self._bodies.prepare("data", data, returns)
        return await self._caller.call(subject, "", data, headers, read)

    @overload
    async def call(
        self, service: str, endpoint: str, data: bytes = b"", /, *, headers: HeadersInput | None = None
    ) -> Message: ...

    @overload
    async def call(
        self,
        service: str,
        endpoint: str,
        body: Any = b"",
        /,
        *,
        headers: HeadersInput | None = None,
        returns: type[ResultT],
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
            NoRespondersError: there is no such service, or no instance answers within two seconds.
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
            check_argument("endpoint", endpoint, text_rule)
            data, read = self._bodies.prepare("body", _only_body(f"{target!r}, {endpoint!r}", bodies), returns)
            return await self._call_listed(target, endpoint, data, headers, read)
        if returns is not Message:
            raise TypeError("returns: must be left out of a call by function, whose own type counts")
        body = _only_body(getattr(target, "__name__", "..."), args)
        if service is not None and not isinstance(service, (str, ServiceConfig)):
            raise TypeError(f"service: must be a service's name, or its natsery.ServiceConfig; got {shorten(service)}")
        declared = endpoint_of(target)
        if declared._read_signature().is_stream:
            raise TypeError(f"handler: {declared.name!r} is an async generator function; write client.stream(...)")
        data, read = self._bodies.prepare_declared(declared, body)
        if isinstance(service, str):
            return await self._call_listed(service, declared.name, data, headers, read)
        subject, name, hint = target_of(declared, service)
        try:
            return await self._caller.call(subject, name, data, headers, read)
        except NoRespondersError as error:
            if hint is not None:
                error.add_note(hint)
            raise

    async def _call_listed(
        self, service: str, endpoint: str, data: Any, headers: HeadersInput | None, read: Read
    ) -> Any:
        """Call an endpoint on the subject that its service says it has."""
        check_argument("service", service, name_rule)
        # Read twice, where an endpoint has moved.
        kept = None if headers is None else Headers(headers)

        async def send(subject: str) -> Any:
            return await self._caller.call(subject, f"{service}/{endpoint}", data, kept, read)

        return await self._directory.call(service, endpoint, send)

    async def find_endpoint(self, service: str, endpoint: str) -> EndpointInfo:
        """Return how a running service describes one of its endpoints, as its first instance that has it answers.

        Args:
            service: the service's name.
            endpoint: the endpoint's name, or its whole subject.

        Raises:
            NoRespondersError: there is no such service, or no instance answers within two seconds.
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
            NoRespondersError: there is no such service, or no instance answers within two seconds.
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


def _only_body(called: str, bodies: Sequence[Any]) -> Any:
    if len(bodies) > 1:
        raise TypeError(f"call({called}) takes one body, not {len(bodies)}; headers go into headers=...")
    return bodies[0] if bodies else b""
