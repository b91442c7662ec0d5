"""OpenTelemetry: spans and metrics of requests and calls, as instruments; docs/telemetry.md has the attributes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Final, final
from urllib.parse import urlsplit

try:
    from opentelemetry import context, metrics, propagate, trace
    from opentelemetry.propagators.textmap import Setter
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode
except ImportError:
    raise ImportError(
        "natsery.otel needs opentelemetry-api; run: pip install 'natsery[otel]'", name="opentelemetry"
    ) from None

from . import abc
from ._instruments import Call, Instrument, Outcome
from ._message import Headers, HeadersInput, Message
from ._service_error import ServiceError
from ._version import __version__

if TYPE_CHECKING:
    from ._service._endpoint import Endpoint
    from ._service._request import Request

__all__ = ("Metrics", "Tracing", "context_of", "headers_with_context")

SYSTEM: Final = "nats"
"""The value of ``rpc.system.name``."""

STATUS_CODE: Final = "rpc.response.status_code"
"""The attribute for the code of a reply, in version 1.44 of the conventions; their main branch has ``rpc.status_code``."""

OTHER: Final = "_OTHER"
"""The value of ``rpc.method`` for calls to a subject: it may have an id in it."""

BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Upper bounds of the buckets of durations that the conventions name, in seconds."""

_LEAST_SERVER_ERROR: Final = 500


@final
class Tracing(Instrument):
    """Makes a SERVER span of each request and a CLIENT span of each call::

        tracing = natsery.otel.Tracing()
        config = natsery.ServiceConfig(..., instruments=[tracing])
        client = natsery.ServiceClient(nc, instruments=[tracing])

    The span is current in the handler, in what that calls, and around a call. Its context travels in the headers of the
    message, as the global propagator writes it (W3C Trace Context unless a program sets another). One object serves all services
    and clients.

    Args:
        tracer_provider: where the spans go; the global one if left out.

    Source: OpenTelemetry semantic conventions 1.44, "RPC spans".
    """

    def __init__(self, tracer_provider: trace.TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer("natsery", __version__, tracer_provider)
        self._spans: dict[Request | Call, Span] = {}

    def request_started(self, request: Request) -> AbstractContextManager[object]:
        """Begin the span of a request, as a child of its caller's."""
        span = self._spans[request] = self._start_server_span(request.endpoint, request)
        return _attached(trace.set_span_in_context(span, context_of(request)))

    def request_ended(self, request: Request, outcome: Outcome) -> None:
        """End the span of a request."""
        _end_server_span(self._spans.pop(request), outcome)

    def request_refused(self, endpoint: Endpoint, request: Request | None, outcome: Outcome) -> None:
        """Make a span of the time that a request has waited in vain."""
        _end_server_span(self._start_server_span(endpoint, request, waited=outcome.waited), outcome)

    def call_started(self, call: Call) -> AbstractContextManager[object]:
        """Begin the span of a call, and put its context into the headers."""
        attributes = {**_attributes_of_call(call), **_server_of(call.connection)}
        if call.method == call.subject:
            attributes["rpc.method_original"] = call.subject
        name = SYSTEM if attributes["rpc.method"] == OTHER else call.method
        span = self._spans[call] = self._tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)
        with_span = trace.set_span_in_context(span)
        propagate.inject(call.headers, with_span, _PAIRS)
        return _attached(with_span)

    def call_ended(self, call: Call, outcome: Outcome) -> None:
        """End the span of a call."""
        span = self._spans.pop(call)
        span.set_attributes(_attributes_of_reply(outcome))
        if not outcome.is_good:
            _set_error(span, outcome)
        span.end()

    def _start_server_span(self, endpoint: Endpoint, request: Request | None, waited: float = 0.0) -> Span:
        method = _method_of(endpoint)
        return self._tracer.start_span(
            method,
            context=None if request is None else context_of(request),
            kind=SpanKind.SERVER,
            attributes={
                "rpc.system.name": SYSTEM,
                "rpc.method": method,
                **_server_of(endpoint.service._connection),
            },
            start_time=time.time_ns() - round(waited * 1e9),
        )


@final
class Metrics(Instrument):
    """Records how long requests and calls took: ``rpc.server.call.duration`` and ``rpc.client.call.duration``, in seconds.

    One object serves all services and clients of a program.

    Args:
        meter_provider: where the measurements go; the global one if left out.

    Source: OpenTelemetry semantic conventions 1.44, "RPC metrics".
    """

    def __init__(self, meter_provider: metrics.MeterProvider | None = None) -> None:
        meter = metrics.get_meter("natsery", __version__, meter_provider)

        def durations(side: str, text: str) -> metrics.Histogram:
            return meter.create_histogram(
                f"rpc.{side}.call.duration", "s", text, explicit_bucket_boundaries_advisory=BUCKETS
            )

        self._requests = durations("server", "Duration of requests to services.")
        self._calls = durations("client", "Duration of calls of services.")

    def request_ended(self, request: Request, outcome: Outcome) -> None:
        """Record a request."""
        self._record_request(request.endpoint, outcome)

    def request_refused(self, endpoint: Endpoint, request: Request | None, outcome: Outcome) -> None:  # noqa: ARG002
        """Record a request that took no time."""
        self._record_request(endpoint, outcome)

    def call_ended(self, call: Call, outcome: Outcome) -> None:
        """Record a call."""
        attributes = {**_attributes_of_call(call), **_attributes_of_reply(outcome), **_server_of(call.connection)}
        self._calls.record(outcome.duration, attributes)

    def _record_request(self, endpoint: Endpoint, outcome: Outcome) -> None:
        attributes = {
            "rpc.system.name": SYSTEM,
            "rpc.method": _method_of(endpoint),
            **_attributes_of_answer(outcome),
            **_server_of(endpoint.service._connection),
        }
        self._requests.record(outcome.duration, attributes)


def headers_with_context(headers: HeadersInput | None = None) -> list[tuple[str, str]]:
    """Return headers with the current context, for messages that are no calls: ``nc.publish(subject, data, headers=...)``.

    Raises:
        TypeError, ValueError: the headers that are given break a rule.
    """
    pairs = [*Headers(headers).multi_items()]
    propagate.inject(pairs, setter=_PAIRS)
    return pairs


def context_of(message: Message) -> context.Context:
    """Return the context in a message's headers, as the parent for spans of a subscriber."""
    # Without the caller's own context, which is that of the task that happens to handle it.
    return propagate.extract(message.headers, context.Context())


class _Pairs(Setter[list[tuple[str, str]]]):
    """Sets headers in a list of pairs."""

    def set(self, carrier: list[tuple[str, str]], key: str, value: str) -> None:
        try:
            pair = Headers({key: value}).multi_items()
        except ValueError:
            return  # what cannot travel must not have the message refused
        carrier[:] = [each for each in carrier if each[0].lower() != key.lower()]
        carrier.extend(pair)


_PAIRS: Final = _Pairs()


@contextmanager
def _attached(current: context.Context) -> Iterator[None]:
    token = context.attach(current)
    try:
        yield
    finally:
        context.detach(token)


def _end_server_span(span: Span, outcome: Outcome) -> None:
    span.set_attributes(_attributes_of_answer(outcome))
    if outcome.code >= _LEAST_SERVER_ERROR:
        _set_error(span, outcome)
    span.end()


def _set_error(span: Span, outcome: Outcome) -> None:
    if outcome.error is not None and not isinstance(outcome.error, ServiceError):
        span.record_exception(outcome.error)
    span.set_status(Status(StatusCode.ERROR, outcome.description))


def _method_of(endpoint: Endpoint) -> str:
    return f"{endpoint.service.name}/{endpoint.name}"


def _attributes_of_call(call: Call) -> dict[str, Any]:
    return {"rpc.system.name": SYSTEM, "rpc.method": OTHER if call.method == call.subject else call.method}


def _attributes_of_answer(outcome: Outcome) -> Mapping[str, str]:
    """Return the attributes of what a service has answered; an error of the requester's is none of the service's."""
    code = str(outcome.code)
    return {STATUS_CODE: code} | ({"error.type": code} if outcome.code >= _LEAST_SERVER_ERROR else {})


def _attributes_of_reply(outcome: Outcome) -> Mapping[str, str]:
    """Return the attributes of what a client has got; without a reply there is no code."""
    code = str(outcome.code)
    if outcome.is_good:
        return {STATUS_CODE: code}
    if isinstance(outcome.error, ServiceError):
        return {STATUS_CODE: code, "error.type": code}
    cls = type(outcome.error)
    return {"error.type": f"{cls.__module__}.{cls.__qualname__}"}


def _server_of(connection: abc.Connection) -> Mapping[str, str | int]:
    """Return the address of the NATS server, where the connection says it."""
    url = getattr(connection, "connected_url", "")
    if not url:
        return {}
    parts = urlsplit(url)
    return {"server.address": parts.hostname or "", "server.port": parts.port or 4222}
