"""What a call by function goes to."""

from __future__ import annotations

from typing import Final, NamedTuple

from .._endpoint_config import EndpointConfig
from .._service_config import ServiceConfig, subject_in

_OWN_SUBJECT: Final = (
    "that is the endpoint's own subject; if groups are around it, write service=..., the ServiceConfig"
)


class Target(NamedTuple):
    """An endpoint, as requests go to it and as instruments are told of it.

    Attributes:
        subject: where its requests go.
        name: that of its calls.
        hint: a note for the error if nobody responds.
    """

    subject: str
    name: str
    hint: str | None


def target_of(endpoint: EndpointConfig, service: ServiceConfig | None) -> Target:
    """Return the target that an endpoint is by itself, or inside the groups of a service.

    Raises:
        TypeError, ConfigError: as for ``subject_in``.
    """
    if service is None:
        return Target(endpoint.subject or endpoint.name, endpoint.name, _OWN_SUBJECT)
    return Target(subject_in(service, endpoint), f"{service.name}/{endpoint.name}", None)
