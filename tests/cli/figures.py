"""STATS of services that do not exist."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from natsery import EndpointStats, ServiceStats

STARTED = datetime(2026, 9, 24, 11, tzinfo=UTC)


def endpoint(
    requests: int = 0,
    errors: int = 0,
    time: int = 0,
    last_error: str = "",
    *,
    name: str = "add",
    subject: str = "",
    queue_group: str = "q",
) -> EndpointStats:
    return EndpointStats(
        name=name,
        subject=subject or f"math.{name}",
        queue_group=queue_group,
        num_requests=requests,
        num_errors=errors,
        processing_time=time,
        average_processing_time=time // requests if requests > 0 else 0,
        last_error=last_error,
    )


def stats(
    *endpoints: EndpointStats,
    name: str = "calc",
    instance: str = "one",
    version: str = "1.0.0",
    started: datetime = STARTED,
    metadata: Mapping[str, str] | None = None,
) -> ServiceStats:
    return ServiceStats(
        name=name, id=instance, version=version, started=started, endpoints=endpoints, metadata=metadata or {}
    )
