"""`ServiceClient`: calls services, and finds them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, Literal, Never, TypeVar, final, overload

from .. import abc
from .._adr32 import DEFAULT_PREFIX, Verb, control_subject
from .._checks import check_argument
from .._errors import BackendMismatchError, MalformedReplyError, printable
from .._message import HeadersInput, Message
from .._responses import ServiceInfo, ServicePing, ServiceStats
from .._service_error import ServiceError
from .._subjects import literal_subject_rule
from .._usage import DEADLINE, block, describe_no_connection, explain_options, refuse_options
from ._replies import Replies, ReplyStream, open_replies

DEFAULT_WAIT = 2.0
"""Seconds that a collection takes at most."""

DEFAULT_STALL = 0.5
"""Seconds without a reply, after the first one, that end a collection."""

MAX_DESCRIPTION = 500
"""Characters of an error's description that are kept."""

_TYPES: dict[str, type[ServicePing]] = {Verb.PING: ServicePing, Verb.INFO: ServiceInfo, Verb.STATS: ServiceStats}

_WAIT: Final = "write wait=..."
_COLLECT_HINTS: Final = {"timeout": _WAIT, "max_wait": _WAIT}
_REQUEST_HINTS: Final = {"timeout": DEADLINE, "payload": "write data=..."}

S = TypeVar("S", bound=ServicePing)


@final
class ServiceClient:
    """Calls services of any implementation, and finds out which there are::

        client = natsery.ServiceClient(nc)
        with anyio.fail_after(2):
            reply = await client.request("math.add", b"1+2")
        for each in await client.ping():
            print(each.name, each.id)

    It holds nothing: no task, no subscription; make as many as you like. Calls may be made concurrently.

    Args:
        nc: a connection.
        prefix: the control prefix of the services to find.

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

    def __init__(self, nc: abc.Connection, *, prefix: str = DEFAULT_PREFIX) -> None:
        if not isinstance(nc, abc.Connection):
            raise BackendMismatchError(
                f"ServiceClient needs a connection of natsery's, not {describe_no_connection(nc)}"
            )
        self._nc = nc
        self._prefix = check_argument("prefix", prefix, literal_subject_rule)

    async def request(
        self, subject: str, data: bytes = b"", *, headers: HeadersInput | None = None, **unknown: Never
    ) -> Message:
        """Call a service and wait for its reply, without a limit: callers own deadlines.

        Raises:
            ServiceError: the service answered with an error; its ``data`` and ``headers`` are those of the reply.
            NoRespondersError: there is no subscription to the subject.
            PublishDeniedError, SubscriptionDeniedError: this user may not publish there, or not receive replies.
            TypeError, ValueError, MaxPayloadError, OutboundBufferError, ConnectionClosedError: as for
                ``Connection.publish``.

        **Cancellation:** the request may have been sent; a late reply is dropped. A checkpoint.

        Source: ADR-32, "Error handling".
        """
        if unknown:
            refuse_options("request", unknown, _REQUEST_HINTS)
        reply = await self._nc.request(subject, data, headers=headers)
        error = ServiceError.from_message(reply)
        if error is not None:
            raise error
        return reply

    @explain_options({**_COLLECT_HINTS, "payload": "write data=..."})
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


def _as_it_is(message: Message) -> Message:
    return message


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
