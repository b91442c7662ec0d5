"""Asks a service for its schemas: finds the endpoint that serves them, and takes the document whole or in pieces."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias, final

from .._errors import MalformedReplyError, UnknownEndpointError
from .._message import Message
from .._responses import ServiceInfo
from .._schemas import (
    NO_SUCH_ENDPOINT,
    SCHEMA_ENDPOINT,
    TOO_LARGE_AT_ONCE,
    EndpointSchema,
    ServiceSchema,
    serves_schemas,
)
from .._service_error import ServiceError
from ._directory import listed_names
from ._replies import ReplyStream

OpenInfo: TypeAlias = "AbstractAsyncContextManager[ReplyStream[ServiceInfo]]"

MAX_BYTES = 64 * 1024 * 1024
"""How large all pieces of a document may be."""


@final
class SchemaRequest:
    """Asks one service.

    Args:
        request: sends a request and returns its reply, or raises its error.
        service: the service's name.
    """

    def __init__(self, request: Callable[[str, bytes], Awaitable[Message]], service: str) -> None:
        self._request = request
        self._service = service

    async def send(self, ask: OpenInfo, endpoint: str | None) -> ServiceSchema:
        """Return the document, or what it says of one endpoint. See `ServiceClient.schema`."""
        info, subject = await self._find(ask)
        if endpoint is not None:
            piece = await self._take(info, subject, endpoint)
            if piece is None:
                reason = f"there is none of that name; it has {listed_names(_names(info))}"
                raise UnknownEndpointError(self._service, endpoint, reason)
            return piece
        try:
            return await self._read(info, subject, b"")
        except ServiceError as error:
            if error.code != TOO_LARGE_AT_ONCE[0]:
                raise
        return await self._take_in_pieces(info, subject)

    async def _find(self, ask: OpenInfo) -> tuple[ServiceInfo, str]:
        """Return the first instance that serves schemas, and the subject where it does."""
        is_there = False
        async with ask as replies:
            async for info in replies:
                is_there = True
                for each in info.endpoints:
                    if serves_schemas(info.name, info.id, each):
                        return info, each.subject
        if not is_there:
            raise replies._no_responders()
        raise UnknownEndpointError(
            self._service, SCHEMA_ENDPOINT, "it serves no schemas; write ServiceConfig(schemas=True)"
        )

    async def _read(self, info: ServiceInfo, subject: str, wanted: bytes) -> ServiceSchema:
        schema = ServiceSchema.from_json((await self._request(subject, wanted)).data)
        if (schema.name, schema.id) != (info.name, info.id):
            raise MalformedReplyError(f"{subject!r} answered with the schemas of another service, {schema.name!r}")
        return schema

    async def _take(self, info: ServiceInfo, subject: str, endpoint: str) -> ServiceSchema | None:
        """Return what the document says of one endpoint, ``None`` if there is none."""
        try:
            return await self._read(info, subject, endpoint.encode())
        except ServiceError as error:
            if error.code != NO_SUCH_ENDPOINT[0]:
                raise
        return None

    async def _take_in_pieces(self, info: ServiceInfo, subject: str) -> ServiceSchema:
        endpoints: list[EndpointSchema] = []
        size = 0
        for name in _names(info):
            piece = await self._take(info, subject, name)
            if piece is None:
                continue  # removed meanwhile
            size += len(piece.raw)
            if size > MAX_BYTES:
                raise MalformedReplyError(f"the schemas of {self._service!r} are larger than {MAX_BYTES:,} bytes")
            endpoints += piece.endpoints
        return ServiceSchema(
            name=info.name,
            id=info.id,
            version=info.version,
            metadata=info.metadata,
            description=info.description,
            endpoints=tuple(endpoints),
        )


def _names(info: ServiceInfo) -> list[str]:
    """Return the names of an instance's endpoints, each once, but for that of the one that serves the schemas."""
    return list(dict.fromkeys(each.name for each in info.endpoints if not serves_schemas(info.name, info.id, each)))
