"""Instruments: what is told, synchronously, of each request to a service and of each call of a client."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, final

if TYPE_CHECKING:
    from . import abc
    from ._errors import PublishDeniedError
    from ._service._endpoint import Endpoint
    from ._service._request import Request
    from ._service._service import Service
    from ._statistics import FailureCause

GOOD = 200
"""The code of requests and calls that did not fail; no such code is on the wire."""


@final
class Outcome(NamedTuple):
    """How a request or a call has ended."""

    code: int
    """The code of the error reply, or 200. For a call without a reply: 499 if it was cancelled, 503 without responders, 500."""
    cause: FailureCause | None = None
    """Why the request counts as failed, ``None`` if it does not; always ``None`` for a call."""
    description: str = ""
    """The description of the error reply."""
    duration: float = 0.0
    """Seconds in its handler, as in the statistics, or from a call to its reply; 0 if it was refused."""
    waited: float = 0.0
    """Seconds that the request waited for its handler; 0 for a call."""
    error: BaseException | None = None
    """What the handler or the call has raised, if that is what it failed of."""

    @property
    def is_good(self) -> bool:
        """Whether it did not fail, whatever code a handler may have given its error."""
        return self.cause is None and self.error is None


@final
@dataclass(eq=False)
class Call:
    """A call that a `ServiceClient` is about to make.

    Attributes:
        subject: where it goes.
        name: ``"service/endpoint"``, or the endpoint's name alone where the service's is not known; ``""`` if neither is.
        headers: the headers that it is sent with, as pairs; instruments may append some.
        connection: what it is sent over.
    """

    subject: str
    name: str
    headers: list[tuple[str, str]]
    connection: abc.Connection

    @property
    def method(self) -> str:
        """The name, or the subject if there is none."""
        return self.name or self.subject


class Instrument:
    """Told of a service's requests or of a client's calls; a base class, whose methods do nothing: override what is wanted.

    It is given as ``ServiceConfig(instruments=[...])``, or as ``ServiceClient(nc, instruments=[...])``::

        class SlowRequests(natsery.Instrument):
            def request_ended(self, request: natsery.Request, outcome: natsery.Outcome) -> None:
                if outcome.duration > 1:
                    print(f"{request.subject}: {outcome.duration:.1f} s, {outcome.code}")

    The methods are called in the event loop, between the steps of the request: they must be quick and must not wait. One that
    raises an ``Exception`` is logged, and that instrument is told nothing more by this service or client.
    """

    def service_started(self, service: Service) -> None:
        """Called when a service has started; it may have taken requests already."""

    def service_ended(self, service: Service) -> None:
        """Called when a service that was started has ended, once for each, after its last request."""

    def request_started(self, request: Request) -> AbstractContextManager[object] | None:
        """Called before a handler is. What it returns is entered around the handler, in its task: for context variables."""

    def request_ended(self, request: Request, outcome: Outcome) -> None:
        """Called when a request that was started has ended, once for each, after its reply has left."""

    def request_refused(self, endpoint: Endpoint, request: Request | None, outcome: Outcome) -> None:
        """Called when a request ends without having been started; its cause says why.

        ``request`` is ``None`` if the connection had no room for it.
        """

    def reply_denied(self, endpoint: Endpoint, error: PublishDeniedError) -> None:
        """Called when the server refuses a reply after `request_ended` has told that its request ended well.

        The statistics then count that request as failed. Of replies that are refused before their request ends,
        `request_ended` tells.
        """

    def call_started(self, call: Call) -> AbstractContextManager[object] | None:
        """Called before a call is made. What it returns is entered around the call."""

    def call_ended(self, call: Call, outcome: Outcome) -> None:
        """Called when a call that was started has ended, once for each."""
