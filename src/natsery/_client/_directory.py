"""Where the endpoints of services are: asked once, and again when nobody responds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from itertools import islice
from typing import TypeAlias, TypeVar, final
from weakref import WeakValueDictionary

import anyio

from .._errors import NoRespondersError, UnknownEndpointError, shorten
from .._responses import EndpointInfo, ServiceInfo
from .._subjects import literal_subject_rule
from ._replies import ReplyStream

OpenInfo: TypeAlias = "AbstractAsyncContextManager[ReplyStream[ServiceInfo]]"

MAX_KEPT = 1_024
"""Endpoints of which the subjects are kept."""

MAX_LISTED = 20
"""Names that an error lists."""

ResultT = TypeVar("ResultT")


@final
class Directory:
    """Finds endpoints by the names of their services and their own.

    Args:
        ask: opens a collection of the INFO of all instances of a service.
    """

    def __init__(self, ask: Callable[[str], OpenInfo]) -> None:
        self._ask = ask
        self._subjects: dict[tuple[str, str], str] = {}
        # Those who ask at the same time ask once; a lock lasts as long as somebody holds it or waits for it.
        self._locks: WeakValueDictionary[tuple[str, str], anyio.Lock] = WeakValueDictionary()

    async def call(self, service: str, endpoint: str, send: Callable[[str], Awaitable[ResultT]]) -> ResultT:
        """Call ``send`` with an endpoint's subject; once more with a newer one if nobody responds at the one that was known.

        Raises:
            NoRespondersError: no instance of the service is there.
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
        lock = self._locks.setdefault(key, anyio.Lock())
        async with lock:
            subject = self._subjects.get(key)
            if subject is None:
                subject = _literal_subject(service, await self.find(service, endpoint))
                if len(self._subjects) >= MAX_KEPT:
                    del self._subjects[next(iter(self._subjects))]
                self._subjects[key] = subject
        return await send(subject)

    async def find(self, service: str, endpoint: str) -> EndpointInfo:
        """Return the endpoint as the first instance that has it describes it. See `ServiceClient.find_endpoint`."""
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
                    return found[0]
                others.update(dict.fromkeys(each.name for each in info.endpoints))
        if not is_there:
            raise NoRespondersError(replies._subject)
        raise UnknownEndpointError(service, endpoint, f"there is none of that name; it has {listed_names(others)}")


def _literal_subject(service: str, endpoint: EndpointInfo) -> str:
    if literal_subject_rule(endpoint.subject) is not None:
        reason = f"it has no subject of its own; send the request to one that {shorten(endpoint.subject)} stands for"
        raise UnknownEndpointError(service, endpoint.name, reason)
    return endpoint.subject


def listed_names(names: Iterable[str]) -> str:
    """Return some names as an error shows them."""
    some = [shorten(each) for each in islice(names, MAX_LISTED)]
    return ", ".join(some) or "none"
