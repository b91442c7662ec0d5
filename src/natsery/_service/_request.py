"""One request, as its handler sees it."""

from __future__ import annotations

import json
import math
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, final

from .._adr32 import TOO_LARGE
from .._core import RequestFields
from .._errors import ConnectionClosedError, MaxPayloadError, NoReplySubjectError, PublishError, ServiceStoppedError
from .._headers import NO_HEADERS, Headers, HeadersInput
from .._message import Message
from .._protocol._commands import as_bytes
from .._service_error import read_code, sendable_error_headers
from .._statistics import Failure, FailureCause
from .._subjects import tokens_of_wildcards

if TYPE_CHECKING:
    import typing_extensions  # which type checkers know; it is not imported at run time

    from .. import abc
    from ._detached_request import DetachedRequest
    from ._service import Service

    StateT = typing_extensions.TypeVar("StateT", default=Any)
else:
    StateT = TypeVar("StateT")


@final
class Request(RequestFields, Message, Generic[StateT]):
    """A message to an endpoint, and the ways to answer it.

    A handler answers by returning ``bytes``, or with ``respond…`` as often as it likes. One that returns ``None`` without
    having responded sends nothing: others may answer. Once the handler has returned, or was cut off, the request has ended
    and takes no more answers, unless it was detached.

    ``Request[Shop]`` is a request of a service whose lifespan yields a ``Shop``, for type checkers.

    Attributes:
        subject: the subject that it was sent to.
        reply: where the answer goes, ``""`` if none is wanted.
        data: the payload.
        headers: its headers, empty if it has none.
        endpoint: the endpoint that received it.
    """

    # Left out at first, for most requests have none of them: `_call`, the last coroutine of `respond…`, and the event loop's
    # times `_arrived`, when it came, and `_deadline`.
    __slots__ = ("_arrived", "_call", "_deadline")

    _arrived: float
    _deadline: float

    def __init__(
        self,
        subject: str,
        data: bytes,
        reply: str,
        headers: Headers = NO_HEADERS,
        status: int = 0,
    ) -> None:
        # `Message.__init__`, written out: a call less for every request.
        self.subject = subject
        self.data = data
        self.reply = reply
        self.headers = headers
        self.status = status
        self._failure = None
        self._has_responded = False
        self._has_ended = False
        self._is_released = False

    @property
    def state(self) -> StateT:
        """What the service's lifespan has yielded, ``None`` if it has no lifespan."""
        return cast("StateT", self.endpoint._context.state)

    @property
    def connection(self) -> abc.Connection:
        """The connection that the service is served over, to publish, to subscribe and to call other services."""
        return self.endpoint._context.connection

    @property
    def service(self) -> Service:
        """The service that received it.

        Raises:
            RuntimeError: the request was made for a test, without a service.
        """
        return self.endpoint.service

    @property
    def deadline(self) -> float:
        """When its handler is cut off, by ``anyio.current_time()``; ``math.inf`` for never.

        It is the earlier of the endpoint's ``timeout`` and what the requester gives it. Calls that the handler makes with
        `ServiceClient` hand it on.
        """
        return getattr(self, "_deadline", math.inf)

    @property
    def tokens(self) -> tuple[str, ...]:
        """The tokens of the subject that the endpoint's wildcards stand for, in order.

        ``*`` gives one token and ``>`` one for each that it covers: on ``orders.*.items.>`` the subject
        ``orders.7.items.a.b`` gives ``("7", "a", "b")``.
        """
        return tokens_of_wildcards(self.endpoint.subject, self.subject)

    def json(self) -> Any:  # whatever JSON value the requester sent
        """Return the payload read as JSON.

        Raises:
            ValueError: it is not JSON.
        """
        return json.loads(self.data)

    def respond(self, data: bytes = b"", *, headers: HeadersInput | None = None) -> Coroutine[Any, Any, None]:
        """Send a reply. To be awaited.

        Raises:
            NoReplySubjectError: the requester named no reply subject; the request counts as failed.
            MaxPayloadError: the reply is larger than the server takes; nothing was sent.
            ConnectionClosedError, OutboundBufferError: the connection cannot take it.
            TypeError, ValueError: ``data`` is not bytes, or the headers break a rule; nothing was sent.
            ServiceStoppedError: the request has ended: its handler returned, ran out of time or was cut off.

        **Cancellation:** each call is a cancellation point, and raises there with nothing sent. Other tasks get their turn
        when it has to wait because the connection's output buffer is over its high-water mark, and at the latest after 64
        calls or 64 KiB.
        """
        self._call = call = self._respond(data, headers)
        return call

    def respond_json(self, value: Any, *, headers: HeadersInput | None = None) -> Coroutine[Any, Any, None]:
        """Send a value as compact JSON. To be awaited; otherwise as ``respond``.

        Raises:
            TypeError, ValueError: the value cannot be written as JSON; nothing was sent.
        """
        self._call = call = self._respond_json(value, headers)
        return call

    def respond_error(
        self, code: int | str, description: str, data: bytes = b"", *, headers: HeadersInput | None = None
    ) -> Coroutine[Any, Any, None]:
        """Send an error reply; the request counts as failed. To be awaited; otherwise as ``respond``.

        Headers that cannot be sent are left out, which is logged, so that the requester gets the error in any case.

        Raises:
            TypeError, ValueError: the code is not a whole number (or its digits as a ``str``), or the description is
                empty; nothing was sent.

        Source: ADR-32, "Error handling".
        """
        self._call = call = self._respond_error(code, description, data, headers)
        return call

    def detach(self) -> DetachedRequest:
        """Keep the request open after the handler has returned, to be answered later by another task.

        Returns an async context manager; the request ends when that is left. See `DetachedRequest`.

        Raises:
            ServiceStoppedError: the request has ended.
            RuntimeError: it is detached already.
        """
        return self.endpoint._queue.detach(self)

    @property
    def _size(self) -> int:
        """Bytes of its payload and headers."""
        return len(self.data) + self.headers._wire_size

    @property
    def _has_sent_error(self) -> bool:
        return self._failure is not None and self._failure.cause is FailureCause.SERVICE_ERROR

    async def _respond(self, data: bytes, headers: HeadersInput | None) -> None:
        data = as_bytes(data)
        await self.endpoint._turns.checkpoint(len(data))
        await self._send(data, headers)

    async def _respond_json(self, value: Any, headers: HeadersInput | None) -> None:
        await self._respond(_to_json(value), headers)

    async def _respond_error(
        self, code: int | str, description: str, data: bytes, headers: HeadersInput | None
    ) -> None:
        data, number = as_bytes(data), read_code(code)
        block, problem = sendable_error_headers(number, description, headers)
        if problem is not None:
            self.endpoint._context.errors.report(problem, self.endpoint, self)
        await self.endpoint._turns.checkpoint(len(data))
        # Before it is sent: cancelled while it waits there, it is on its way.
        failure, self._failure = self._failure, Failure(FailureCause.SERVICE_ERROR, number, description)
        try:
            await self._send(data, block)
        except Exception as error:
            self._failure = failure
            self._note_undelivered(error)
            raise

    async def _send(self, data: bytes, headers: HeadersInput | None, *, acknowledgements: str = "") -> None:
        if self._has_ended:
            raise ServiceStoppedError("the request has ended: its handler returned, ran out of time or was cut off")
        reply = self.reply
        if not reply:
            error = NoReplySubjectError(self.subject)
            self._note_undelivered(error)
            raise error
        context = self.endpoint._context
        # `send` waits only once it has the message, so a cancellation there means that the reply is on its way.
        had_responded, self._has_responded = self._has_responded, True
        try:
            await context.fast_path._send(reply, data, reply=acknowledgements, headers=headers)
        except Exception as error:
            self._has_responded = had_responded
            self._note_undelivered(error)
            raise
        if self._failure is not None and self._failure.cause is FailureCause.UNDELIVERABLE:
            self._failure = None
        context.push_if_due()

    def _note_undelivered(self, error: Exception) -> None:
        """Note that the connection did not take a reply, unless the requester has been told of an error."""
        if self._has_sent_error:
            return
        if isinstance(error, MaxPayloadError):
            self._failure = Failure(FailureCause.UNDELIVERABLE, *TOO_LARGE)
        elif isinstance(error, NoReplySubjectError):
            self._failure = Failure(FailureCause.UNDELIVERABLE, 500, "No Reply Subject")
        elif isinstance(error, (PublishError, ConnectionClosedError)):
            self._failure = Failure(FailureCause.UNDELIVERABLE, 500, str(error))


def _to_json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
