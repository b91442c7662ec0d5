"""One request, as its handler sees it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, final

from anyio.lowlevel import checkpoint_if_cancelled

from .._adr32 import error_headers
from .._errors import ConnectionClosedError, NoReplySubjectError, PublishError, ServiceStoppedError, check_error
from .._message import NO_HEADERS, Headers, HeadersInput, Message
from .._statistics import FailureCause

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
        self._failure: tuple[FailureCause, int, str] | None = None
        self._has_responded = False
        self._has_ended = False

    @property
    def tokens(self) -> tuple[str, ...]:
        """The tokens of the subject that the endpoint's wildcards stand for, in order.

        ``*`` gives one token and ``>`` one for each that it covers: on ``orders.*.items.>`` the subject
        ``orders.7.items.a.b`` gives ``("7", "a", "b")``.
        """
        found: list[str] = []
        tokens = self.subject.split(".")
        for index, wanted in enumerate(self.endpoint.subject.split(".")):
            if wanted == "*":
                found.append(tokens[index])
            elif wanted == ">":
                found.extend(tokens[index:])
        return tuple(found)

    def json(self) -> Any:  # whatever JSON value the requester sent
        """The payload read as JSON.

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
            ConfigError: the headers break a rule; nothing was sent.
            TypeError: ``data`` is not bytes; nothing was sent.
            ServiceStoppedError: the request has ended: its handler returned, ran out of time or was cut off.

        **Cancellation:** raises at once if the task is cancelled, with nothing sent. Otherwise it is no checkpoint, unless
        the connection's output buffer is over its high-water mark.
        """
        await checkpoint_if_cancelled()
        await self._send(as_bytes(data), headers)

    async def respond_json(self, value: Any, *, headers: HeadersInput | None = None) -> None:
        """Send a value as compact JSON; otherwise as ``respond``.

        Raises:
            TypeError, ValueError: the value cannot be written as JSON; nothing was sent.
        """
        await self.respond(_to_json(value), headers=headers)

    async def respond_error(
        self, code: int, description: str, data: bytes = b"", *, headers: HeadersInput | None = None
    ) -> None:
        """Send an error reply; the request counts as failed. Otherwise as ``respond``.

        Raises:
            ConfigError: the code is not a non-negative int or the description is empty; nothing was sent.

        Source: ADR-32, "Error handling".
        """
        check_error(code, description)
        await checkpoint_if_cancelled()
        await self._send(as_bytes(data), error_headers(code, description, headers))
        self._failure = (FailureCause.SERVICE_ERROR, code, description)

    async def _send(self, data: bytes, headers: HeadersInput | None) -> None:
        if self._has_ended:
            raise ServiceStoppedError("the request has ended: its handler returned, ran out of time or was cut off")
        reply = self.reply
        if not reply:
            self._failure = (FailureCause.UNDELIVERABLE, 500, "No Reply Subject")
            raise NoReplySubjectError(self.subject)
        # `send` waits only once it has the message, so a cancellation there means that the reply is on its way.
        had_responded, self._has_responded = self._has_responded, True
        try:
            await self.endpoint._fast_path._send(reply, data, headers=headers)
        except Exception as error:
            self._has_responded = had_responded
            self._note_undelivered(error)
            raise
        if self._failure is not None and self._failure[0] is FailureCause.UNDELIVERABLE:
            self._failure = None

    def _note_undelivered(self, error: Exception) -> None:
        """The connection did not take a reply."""
        if isinstance(error, (PublishError, ConnectionClosedError)):
            self._failure = (FailureCause.UNDELIVERABLE, 500, str(error))


def as_bytes(data: object) -> bytes:
    """A reply's payload, refused with what to write instead if it is not bytes."""
    if isinstance(data, bytes):
        return data
    if isinstance(data, (bytearray, memoryview)):
        return bytes(data)
    hint = "; write text.encode()" if isinstance(data, str) else ""
    raise TypeError(f"a reply must be bytes, not {type(data).__name__}{hint}")


def _to_json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
