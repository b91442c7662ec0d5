"""``--health``: what probes are told about the services that are run here."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from .._http import Respond, Response

LIVE = "/live"
READY = "/ready"


def respond_to_probes(why_not_ready: Callable[[], str]) -> Respond:
    """Return what answers probes.

    Args:
        why_not_ready: says why no requests should come, ``""`` if they may.
    """

    async def respond(path: str) -> Response:
        if path == LIVE:
            return Response.of_text(HTTPStatus.OK, "live")
        if path != READY:
            return Response.of_text(HTTPStatus.NOT_FOUND, f"write {LIVE} or {READY}")
        reason = why_not_ready()
        if reason:
            return Response.of_text(HTTPStatus.SERVICE_UNAVAILABLE, reason)
        return Response.of_text(HTTPStatus.OK, "ready")

    return respond
