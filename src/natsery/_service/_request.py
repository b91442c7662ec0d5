"""One request, as its handler sees it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, final

from .._errors import ConnectionClosedError, NoReplySubjectError, PublishError, ServiceStoppedError
from .._message import NO_HEADERS, Headers, HeadersInput, Message
from .._protocol._commands import as_bytes
from .._service_error import error_headers, read_code
from .._statistics import Failure, FailureCause
from .._subjects import tokens_of_wildcards

if TYPE_CHECKING:
    from ._endpoint import Endpoint


@final
class Request(Message):
    """A message to an endpoint, and the ways to answer it.

    A handler answers by returning ``bytes``, or with ``respond…`` as often as it likes; once it has returned, or was cut
    off, the request has ended and takes no more answers.

    Attributes:
        subject: the subject that it was sent to.
        reply: where the answer goes, ``""`` if none is wanted.
        data: the payload.
        headers: its headers, empty if it has none.
        endpoint: the endpoint that received it.
    """

    __slots__ = ("_failure", "_has_ended", "_has_responded", "endpoint")

    endpoint: Endpoint

    def __init__(
        self,
        subject: str,
        data: bytes = b"",
        reply: str = "",
        headers: Headers = NO_HEADERS,
        status: int = 0,
    ) -> None:
        # `Message.__init__`, written out: a call less for every request.
        self.subject = subject
        self.data = data
        self.reply = reply
        self.headers = headers
        self.status = status
        self._failure: Failure | None = None
        self._has_responded = False
        self._has_ended = False

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

    async def respond(self, data: bytes = b"", *, headers: HeadersInput | None = None) -> None:
        """Send a reply.

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
        data = as_bytes(data)
        await self.endpoint._context.turns.checkpoint(len(data))
        await self._send(data, headers)

    async def respond_json(self, value: Any, *, headers: HeadersInput | None = None) -> None:
        """Send a value as compact JSON; otherwise as ``respond``.

        Raises:
            TypeError, ValueError: the value cannot be written as JSON; nothing was sent.
        """
        await self.respond(_to_json(value), headers=headers)

    async def respond_error(
        self, code: int | str, description: str, data: bytes = b"", *, headers: HeadersInput | None = None
    ) -> None:
        """Send an error reply; the request counts as failed. Otherwise as ``respond``.

        Raises:
            TypeError, ValueError: the code is not a whole number (or its digits as a ``str``), or the description is
                empty; nothing was sent.

        Source: ADR-32, "Error handling".
        """
        data, block = as_bytes(data), error_headers(code, description, headers)
        await self.endpoint._context.turns.checkpoint(len(data))
        await self._send(data, block)
        self._failure = Failure(FailureCause.SERVICE_ERROR, read_code(code), description)

    async def _send(self, data: bytes, headers: HeadersInput | None) -> None:
        if self._has_ended:
            raise ServiceStoppedError("the request has ended: its handler returned, ran out of time or was cut off")
        reply = self.reply
        if not reply:
            self._failure = Failure(FailureCause.UNDELIVERABLE, 500, "No Reply Subject")
            raise NoReplySubjectError(self.subject)
        # `send` waits only once it has the message, so a cancellation there means that the reply is on its way.
        had_responded, self._has_responded = self._has_responded, True
        try:
            await self.endpoint._context.fast_path._send(reply, data, headers=headers)
        except Exception as error:
            self._has_responded = had_responded
            self._note_undelivered(error)
            raise
        if self._failure is not None and self._failure.cause is FailureCause.UNDELIVERABLE:
            self._failure = None

    def _note_undelivered(self, error: Exception) -> None:
        """Note that the connection did not take a reply."""
        if isinstance(error, (PublishError, ConnectionClosedError)):
            self._failure = Failure(FailureCause.UNDELIVERABLE, 500, str(error))


def _to_json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
