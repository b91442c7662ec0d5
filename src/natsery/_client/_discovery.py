"""Discovery: which services there are, and what they say of themselves."""

from __future__ import annotations

from collections.abc import Hashable
from contextlib import AbstractAsyncContextManager
from functools import partial
from hashlib import blake2b
from typing import Any, Literal, Never, TypeVar, overload

from .. import abc
from .._adr32 import Verb, control_subject
from .._errors import MalformedReplyError, printable
from .._exports import show_methods_as_of
from .._message import Message
from .._responses import ServiceInfo, ServicePing, ServiceStats
from .._service_error import ServiceError
from .._usage import block, explain_options, refuse_options
from ._collection import COLLECT_HINTS, DEFAULT_WAIT
from ._replies import Replies, ReplyStream, open_replies

DEFAULT_STALL = 0.5
"""Seconds without a reply, after the first one, that end a collection."""

MAX_DESCRIPTION = 500
"""Characters of an error's description that are kept."""

MAX_IDENTITY = 256
"""Characters of an instance's name and id that are kept as they are."""

_TYPES: dict[str, type[ServicePing]] = {Verb.PING: ServicePing, Verb.INFO: ServiceInfo, Verb.STATS: ServiceStats}

S = TypeVar("S", bound=ServicePing)


@show_methods_as_of("ServiceClient")
class Discovery:
    """The discovery of a `ServiceClient`."""

    _nc: abc.Connection
    _prefix: str

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

    @explain_options(COLLECT_HINTS)
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
        return _open_discovery(
            self._nc,
            subject,
            b"",
            None,
            read=partial(_read_answer, _TYPES[verb]),
            wait=wait,
            stall=stall,
            count=1 if id is not None and count is None else count,
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
            refuse_options("ping", unknown, COLLECT_HINTS)
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
            refuse_options("info", unknown, COLLECT_HINTS)
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
            refuse_options("stats", unknown, COLLECT_HINTS)
        async with self.discover("STATS", name, id, wait=wait, stall=stall, count=count) as replies:
            return await replies._collect()


_open_discovery = block("client.discover")(open_replies)


def _instance_of(reply: ServicePing) -> Hashable:
    """Return what tells an instance from others, and is short, for peers choose names and ids."""
    instance = reply.name, reply.id
    if len(reply.name) + len(reply.id) <= MAX_IDENTITY:
        return instance
    return blake2b(repr(instance).encode(), digest_size=16).digest()


def _read_answer(kind: type[S], message: Message) -> S:
    error = ServiceError.from_message(message)
    if error is not None:
        description = error.description[:MAX_DESCRIPTION]
        text = f"a service answered with the error {error.code}: {printable(description)}"
        # Without its payload, which may be large: errors are kept.
        raise MalformedReplyError(text) from ServiceError(error.code, description)
    return kind.from_json(message.data)
