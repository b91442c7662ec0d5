"""`make_request`: a request without a connection, for testing a handler."""

from __future__ import annotations

from typing import Any, final

from anyio.lowlevel import checkpoint

from .._checks import check_argument
from .._connection_base import ConnectionBase, SubscriptionBase
from .._endpoint_config import EndpointConfig
from .._events import ConnectionEvent, EventKind
from .._fast_path import Interest
from .._headers import NO_HEADERS, Headers, HeadersInput
from .._message import Message
from .._protocol import _commands
from .._service._context import ServiceContext
from .._service._endpoint import Endpoint
from .._service._request import Request
from .._service_config import PlacedEndpoint, ServiceConfig
from .._subjects import literal_subject_rule, subject_rule

MAX_PAYLOAD = 1024 * 1024
"""The most bytes of a reply: nats-server's default."""


def make_request(
    data: bytes = b"",
    *,
    subject: str = "test",
    pattern: str | None = None,
    reply: str = "_INBOX.test",
    headers: HeadersInput | None = None,
    endpoint: str = "test",
    state: Any = None,
) -> tuple[Request[Any], list[Message]]:
    """Return a request without a connection, and the list to which ``respond…`` adds answers::

        request, answers = make_request(b"1+2")
        assert await add(request) == b"3"
        assert answers == []

    Args:
        data: the payload.
        subject: the subject that it was sent to.
        pattern: the endpoint's subject, for ``request.tokens``; the same as ``subject`` if left out.
        reply: the reply subject, ``""`` for a message that wants no answer.
        headers: its headers.
        endpoint: the endpoint's name, ``request.endpoint.name``.
        state: what a lifespan would have yielded, ``request.state``.

    Raises:
        TypeError, ValueError: an argument breaks a rule.
    """
    check_argument("subject", subject, literal_subject_rule)
    check_argument("pattern", subject if pattern is None else pattern, subject_rule)
    if reply:
        check_argument("reply", reply, literal_subject_rule)
    connection = RecordingConnection()
    config = ServiceConfig("test", "1.0.0")
    placed = PlacedEndpoint(
        EndpointConfig(endpoint, _refuse), subject if pattern is None else pattern, "q", config._limits
    )
    request = Request(subject, _commands.as_bytes(data), reply, Headers(headers))
    context = ServiceContext(connection, config, lambda _: None, state, "")
    request.endpoint = Endpoint(context, placed)
    request._begun = context.clock_ns()
    return request, connection.sent


async def _refuse(request: Request) -> bytes:
    raise NotImplementedError("the endpoint of a made request has no handler")


@final
class RecordingConnection(ConnectionBase):
    """A connection without a server that records what is sent."""

    def __init__(self) -> None:
        super().__init__("_INBOX.test")
        self.sent: list[Message] = []

    @property
    def max_payload(self) -> int:
        """See `abc.Connection`."""
        return MAX_PAYLOAD

    @property
    def is_connected(self) -> bool:
        """See `abc.Connection`."""
        return not self.is_closed

    async def flush(self) -> None:
        """See `abc.Connection`."""
        await checkpoint()
        self._raise_if_closed()

    async def aclose(self) -> None:
        """See `abc.Connection`."""
        self._emit(ConnectionEvent(EventKind.CLOSED))
        await checkpoint()

    async def _send(
        self, subject: str, data: bytes = b"", *, reply: str = "", headers: HeadersInput | None = None
    ) -> None:
        self._raise_if_closed()
        block = None if headers is None else Headers(headers)
        _commands.publish(subject, data, reply, block, MAX_PAYLOAD)  # for its checks
        self.sent.append(Message(subject, data, reply, block or NO_HEADERS))

    async def _subscribe(self, interest: Interest) -> SubscriptionBase:
        self._raise_if_closed()
        return _RecordedSubscription(interest, self._home)


@final
class _RecordedSubscription(SubscriptionBase):
    """A subscription that receives nothing."""

    async def _unsubscribe(self) -> None:
        pass
