"""Where the endpoints of services are: asked once, and again when nobody responds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from itertools import islice
from typing import TypeAlias, TypeVar, final
from weakref import WeakValueDictionary

import anyio

from .._errors import NatseryError, NoRespondersError, UnknownEndpointError, another, shorten
from .._responses import EndpointInfo, ServiceInfo
from .._subjects import subject_rule
from ._replies import ReplyStream

OpenInfo: TypeAlias = "AbstractAsyncContextManager[ReplyStream[ServiceInfo]]"

MAX_KEPT = 1_024
"""Endpoints of which the subjects are kept."""

MAX_LISTED = 20
"""Names that an error lists."""

ResultT = TypeVar("ResultT")


@final
class _Question:
    """Where an endpoint is, as several ask at the same time: the first one does, and the others wait for its answer."""

    def __init__(self) -> None:
        self.lock = anyio.Lock()
        self.failure: NatseryError | None = None


@final
class Directory:
    """Finds endpoints by the names of their services and their own.

    Args:
        ask: opens a collection of the INFO of all instances of a service.
        control_prefix: that of the services.
        max_bytes: how long a subject may be.
    """

    def __init__(self, ask: Callable[[str], OpenInfo], control_prefix: str, max_bytes: int) -> None:
        self._ask = ask
        self._control_prefix = control_prefix
        self._max_bytes = max_bytes
        self._subjects: dict[tuple[str, str], str] = {}
        # A question lasts as long as somebody asks it or waits for the answer.
        self._questions: WeakValueDictionary[tuple[str, str], _Question] = WeakValueDictionary()

    async def call(self, service: str, endpoint: str, send: Callable[[str], Awaitable[ResultT]]) -> ResultT:
        """Call ``send`` with an endpoint's subject; once more with a newer one if nobody responds at the one that was known.

        Raises:
            NoRespondersError: no instance of the service is there, or none answers within two seconds.
            UnknownEndpointError: none that is has such an endpoint, or its subject has wildcards.
        """
        key = service, endpoint
        known = self._subjects.get(key)
        if known is not None:
            try:
                return await send(known)
            except NoRespondersError:
                if self._subjects.get(key) == known:
                    del self._subjects[key]
        return await send(await self._ask_once(key))

    async def _ask_once(self, key: tuple[str, str]) -> str:
        """Return the subject that is known, or what those who ask at the same time find out."""
        question = self._questions.setdefault(key, _Question())
        async with question.lock:
            subject = self._subjects.get(key)
            if subject is not None:
                return subject
            if question.failure is not None:
                raise another(question.failure)
            try:
                subject = await self.find_subject(*key)
            except NatseryError as error:
                # For those who wait already; whoever comes later asks anew.
                question.failure = another(error)
                del self._questions[key]
                raise
            if len(self._subjects) >= MAX_KEPT:
                del self._subjects[next(iter(self._subjects))]
            self._subjects[key] = subject
            return subject

    async def find_subject(self, service: str, endpoint: str) -> str:
        """Return the subject that an endpoint is called on, as the first instance that has it says.

        Raises:
            NoRespondersError: no instance of the service is there, or none answers within two seconds.
            UnknownEndpointError: as for ``find``, or its subject has wildcards.
        """
        found = await self.find(service, endpoint)
        subject = found.subject
        if "*" in subject or ">" in subject:
            reason = f"it has no subject of its own; send the request to one that {shorten(subject)} stands for"
            raise UnknownEndpointError(service, found.name, reason)
        return subject

    def _why_not_to_be_called(self, subject: str) -> str | None:
        shown = shorten(subject)
        wrong = subject_rule(subject)
        if wrong is not None:
            return f"its subject {wrong}; got {shown}"
        if subject.startswith(("$", f"{self._control_prefix}.")):
            return f"its subject {shown} is one of servers or of the control plane, to which no call by name goes"
        if len(subject.encode()) > self._max_bytes:
            return f"its subject must not be longer than {self._max_bytes} bytes; got {shown}"
        return None

    async def find(self, service: str, endpoint: str) -> EndpointInfo:
        """Return the endpoint as the first instance that has it describes it. See `ServiceClient.find_endpoint`.

        A peer writes INFO, and clients publish there with their own permissions, so that the subject must not be one of servers,
        which begin with ``$``, or of the control plane.
        """
        others: dict[str, None] = {}
        is_there = False
        async with self._ask(service) as replies:
            async for info in replies:
                is_there = True
                found = [each for each in info.endpoints if endpoint in (each.name, each.subject)]
                subjects = dict.fromkeys(each.subject for each in found)
                if len(subjects) > 1:
                    reason = f"several have that name; write one of the subjects {listed_names(subjects)}"
                    raise UnknownEndpointError(service, endpoint, reason)
                if found:
                    wrong = self._why_not_to_be_called(found[0].subject)
                    if wrong is not None:
                        raise UnknownEndpointError(service, found[0].name, wrong)
                    return found[0]
                names = dict.fromkeys([*others, *(each.name for each in info.endpoints)])
                others = dict.fromkeys(islice(names, MAX_LISTED))
        if not is_there:
            raise replies._no_responders()
        raise UnknownEndpointError(service, endpoint, f"there is none of that name; it has {listed_names(others)}")


def listed_names(names: Iterable[str]) -> str:
    """Return some names as an error shows them."""
    some = [shorten(each) for each in islice(names, MAX_LISTED)]
    return ", ".join(some) or "none"
