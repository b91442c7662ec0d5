"""Requests with several replies, and streams: what is read as it comes, for the length of a block."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

from .. import abc
from .._endpoint_config import endpoint_of
from .._exports import show_methods_as_of
from .._headers import HeadersInput
from .._message import Message
from .._service_config import ServiceConfig
from .._stream_headers import DEFAULT_WINDOW
from .._usage import block, explain_options
from ._bodies import Bodies, as_it_is
from ._caller import Caller
from ._collection import COLLECT_HINTS, DEFAULT_WAIT
from ._replies import ReplyStream, open_replies
from ._stream import StreamOptions, open_stream
from ._target import Target, target_of

if TYPE_CHECKING:
    from .._service._request import Request

BodyT = TypeVar("BodyT")
ResultT = TypeVar("ResultT")


@show_methods_as_of("ServiceClient")
class StreamCalls:
    """The calls of a `ServiceClient` that have several replies."""

    _nc: abc.Connection
    _caller: Caller
    _bodies: Bodies

    @explain_options(COLLECT_HINTS | {"payload": "write data=..."})
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
            read=as_it_is,
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

    @explain_options(COLLECT_HINTS | {"sentinel": "use request_many for it"})
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
            subject, name, hint = Target(target, "", None)
            data, read = self._bodies.prepare("body", body, returns)
        else:
            if returns is not Message:
                raise TypeError("returns: must be left out of a stream by function, whose own type counts")
            endpoint = endpoint_of(target)
            if not endpoint._read_signature().is_stream:
                raise TypeError(f"handler: {endpoint.name!r} returns one reply; write client.call(...)")
            subject, name, hint = target_of(endpoint, service)
            data, read = self._bodies.prepare_declared(endpoint, body)
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


_open_stream = block("client.stream")(open_stream)
