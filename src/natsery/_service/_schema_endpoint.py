"""The endpoint that serves the schemas of all others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._endpoint_config import EndpointConfig
from .._schemas import (
    NO_SUCH_ENDPOINT,
    SCHEMA_ENDPOINT,
    SCHEMA_RESPONSE_TYPE,
    SERVES_KEY,
    TOO_LARGE_AT_ONCE,
    ServiceSchema,
    schema_subject,
)
from .._service_error import ServiceError

if TYPE_CHECKING:
    from ._request import Request
    from ._service import Service


def schema_endpoint(service: Service) -> EndpointConfig:
    """Return the endpoint that describes those which a service has at the time of the request.

    The body of a request is the name, or the whole subject, of the endpoint that is wanted; empty for all.
    """

    async def describe(request: Request) -> bytes:
        wanted = request.data.decode(errors="replace")
        described = [each._schema for each in service.endpoints if each._schema is not None]
        if wanted:
            described = [each for each in described if wanted in (each.name, each.subject)]
            if not described:
                raise ServiceError(*NO_SUCH_ENDPOINT)
        config = service.config
        document = ServiceSchema(
            name=config.name,
            id=service.id,
            version=config.version,
            metadata=config.metadata,
            description=config.description or "",
            endpoints=tuple(described),
        ).to_json()
        if not wanted and len(document) > request.connection.max_payload:
            raise ServiceError(*TOO_LARGE_AT_ONCE)
        return document

    return EndpointConfig(
        SCHEMA_ENDPOINT,
        describe,
        subject=schema_subject(service.name, service.id),
        metadata={SERVES_KEY: SCHEMA_RESPONSE_TYPE},
    )
