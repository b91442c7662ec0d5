"""OpenTelemetry: spans and metrics of requests and calls, as instruments; docs/telemetry.md has the attributes."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING, Final, TypeAlias, final
from urllib.parse import urlsplit

import anyio

try:
    from opentelemetry import context, metrics, propagate, trace
    from opentelemetry.propagators.textmap import Getter, Setter
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode
except ImportError:
    raise ImportError(
        "natsery.otel needs opentelemetry-api; run: pip install 'natsery[otel]'", name="opentelemetry"
    ) from None

from . import abc
from ._bounded_values import OTHER, BoundedValues
from ._errors import printable
from ._headers import Headers, HeadersInput
from ._instruments import Call, Instrument, Outcome
from ._message import Message
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

SCHEMA: Final = "https://opentelemetry.io/schemas/1.44.0"
"""The version of the conventions, as OpenTelemetry writes it."""

BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Upper bounds of the buckets of durations that the conventions name, in seconds."""

MAX_CODES: Final = 50
"""Codes and errors of a method that have a time series of their own; more share one."""

MAX_DESCRIPTION: Final = 500
"""Characters of an error's description that a span keeps: a peer may have written it."""

_LEAST_SERVER_ERROR: Final = 500
_RECEIVED_VALUE: Final = re.compile(r"[\t -~]{1,8192}")
_DEFAULT_PORT: Final = 4222

_Attributes: TypeAlias = "dict[str, str | int | float]"


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
        self._tracer = trace.get_tracer("natsery", __version__, tracer_provider, SCHEMA)
        self._spans: dict[Request | Call, Span] = {}

    def request_started(self, request: Request) -> AbstractContextManager[object]:
        """Begin the span of a request at its arrival, as a child of its caller's."""
        parent = context_of(request)
        span = self._start_server_span(request.endpoint, parent, anyio.current_time() - request._arrived)
        self._spans[request] = span
        return _attached(_context_with(span, parent))

    def request_ended(self, request: Request, outcome: Outcome) -> None:
        """End the span of a request."""
        span = self._spans.pop(request)
        span.set_attribute("natsery.waited", outcome.waited)
        _end_server_span(span, outcome)

    def request_refused(self, endpoint: Endpoint, request: Request | None, outcome: Outcome) -> None:
        """Make a span of the time that a request has waited in vain; none of one whose headers are lost."""
        if request is not None:
            _end_server_span(self._start_server_span(endpoint, context_of(request), outcome.waited), outcome)

    def call_started(self, call: Call) -> AbstractContextManager[object]:
        """Begin the span of a call, and put its context into the headers."""
        attributes = _attributes_of_call(call)
        if not call.name:
            attributes["rpc.method_original"] = call.subject
        span = self._tracer.start_span(call.name or SYSTEM, kind=SpanKind.CLIENT, attributes=attributes)
        with_span = _context_with(span, context.get_current())
        propagate.inject(call.headers, with_span, _PAIRS)
        # The last step, for a call whose beginning fails has no end.
        self._spans[call] = span
        return _attached(with_span)

    def call_ended(self, call: Call, outcome: Outcome) -> None:
        """End the span of a call."""
        span = self._spans.pop(call)
        span.set_attributes(_attributes_of_reply(outcome))
        if not outcome.is_good:
            _set_error(span, outcome)
        span.end()

    def _start_server_span(self, endpoint: Endpoint, parent: context.Context, waited: float) -> Span:
        return self._tracer.start_span(
            _method_of(endpoint),
            context=parent,
            kind=SpanKind.SERVER,
            attributes=_attributes_of_endpoint(endpoint),
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
        meter = metrics.get_meter("natsery", __version__, meter_provider, SCHEMA)

        def durations(side: str, text: str) -> metrics.Histogram:
            return meter.create_histogram(
                f"rpc.{side}.call.duration", "s", text, explicit_bucket_boundaries_advisory=BUCKETS
            )

        self._requests = durations("server", "Duration of requests to services.")
        self._calls = durations("client", "Duration of calls of services.")
        self._codes: dict[object, BoundedValues] = {}

    def request_ended(self, request: Request, outcome: Outcome) -> None:
        """Record a request."""
        self._record_request(request.endpoint, outcome)

    def request_refused(self, endpoint: Endpoint, request: Request | None, outcome: Outcome) -> None:  # noqa: ARG002
        """Record a request that has waited in vain."""
        self._record_request(endpoint, outcome)

    def call_ended(self, call: Call, outcome: Outcome) -> None:
        """Record a call."""
        attributes = {**_attributes_of_call(call), **_attributes_of_reply(outcome)}
        self._calls.record(outcome.duration, self._bounded(attributes))

    def _record_request(self, endpoint: Endpoint, outcome: Outcome) -> None:
        attributes = {**_attributes_of_endpoint(endpoint), **_attributes_of_answer(outcome)}
        self._requests.record(outcome.waited + outcome.duration, self._bounded(attributes))

    def _bounded(self, attributes: _Attributes) -> _Attributes:
        """Return the attributes with no more codes than have a time series of their own: peers choose them."""
        method = attributes["rpc.method"]
        codes = self._codes.get(method)
        if codes is None:
            codes = self._codes[method] = BoundedValues(MAX_CODES)
        for name in (STATUS_CODE, "error.type"):
            if name in attributes:
                attributes[name] = codes[attributes[name]]
        return attributes


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
    return propagate.extract(message.headers, context.Context(), _RECEIVED)


class _Received(Getter[Headers]):
    """Reads headers that a peer has chosen, without values that no context has: propagators fail on some, and log others."""

    def get(self, carrier: Headers, key: str) -> list[str] | None:
        return [value for value in carrier.get_all(key) if _RECEIVED_VALUE.fullmatch(value)] or None

    def keys(self, carrier: Headers) -> list[str]:
        return list(carrier)


class _Pairs(Setter[list[tuple[str, str]]]):
    """Sets headers in a list of pairs, in place of those that were there, such as the headers of a request sent on."""

    def set(self, carrier: list[tuple[str, str]], key: str, value: str) -> None:
        try:
            pair = Headers({key: value}).multi_items()
        except ValueError:
            return  # what cannot travel must not have the message refused
        # The state is that of the parent, and set after it.
        replaced = {"traceparent", "tracestate"} if key == "traceparent" else {key.lower()}
        carrier[:] = [each for each in carrier if each[0].lower() not in replaced]
        carrier.extend(pair)


_RECEIVED: Final = _Received()
_PAIRS: Final = _Pairs()


def _context_with(span: Span, parent: context.Context) -> context.Context:
    # Without an SDK, older versions of the API give a span of no trace, which must not end the caller's.
    return trace.set_span_in_context(span, parent) if span.get_span_context().is_valid else parent


@contextmanager
def _attached(current: context.Context) -> Iterator[None]:
    previous = context.get_current()
    context.attach(current)
    try:
        yield
    finally:
        # Not detached, which fails in another task: a stream may be left there, by the end of a generator around it.
        if context.get_current() is current:
            context.attach(previous)


def _end_server_span(span: Span, outcome: Outcome) -> None:
    span.set_attributes(_attributes_of_answer(outcome))
    if outcome.code >= _LEAST_SERVER_ERROR:
        _set_error(span, outcome)
    span.end()


def _set_error(span: Span, outcome: Outcome) -> None:
    span.set_status(Status(StatusCode.ERROR, printable(outcome.description[:MAX_DESCRIPTION])))
    # A `ServiceError` is an answer, and a cancellation has no cause to look for.
    if isinstance(outcome.error, Exception) and not isinstance(outcome.error, ServiceError):
        with suppress(Exception):  # its `__str__` may be broken
            span.record_exception(outcome.error)


def _method_of(endpoint: Endpoint) -> str:
    return f"{endpoint.service.name}/{endpoint.name}"


def _attributes_of_endpoint(endpoint: Endpoint) -> _Attributes:
    return {"rpc.system.name": SYSTEM, "rpc.method": _method_of(endpoint)}


def _attributes_of_call(call: Call) -> _Attributes:
    return {"rpc.system.name": SYSTEM, "rpc.method": call.name or OTHER, **_server_of(call.connection)}


def _attributes_of_answer(outcome: Outcome) -> _Attributes:
    """Return the attributes of what a service has answered; an error of the requester's is none of the service's."""
    code = str(outcome.code)
    return {STATUS_CODE: code, "error.type": code} if outcome.code >= _LEAST_SERVER_ERROR else {STATUS_CODE: code}


def _attributes_of_reply(outcome: Outcome) -> _Attributes:
    """Return the attributes of what a client has got; there is no code if it failed of an exception before a reply."""
    code, error = str(outcome.code), outcome.error
    if outcome.is_good:
        return {STATUS_CODE: code}
    if isinstance(error, Exception) and not isinstance(error, ServiceError):
        cls = type(error)
        return {
            "error.type": cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
        }
    return {STATUS_CODE: code, "error.type": code}


def _server_of(connection: abc.Connection) -> _Attributes:
    """Return the address of the NATS server, where the connection says it, or its nats-py client."""
    url = getattr(getattr(connection, "client", connection), "connected_url", None)
    parts = urlsplit(url) if isinstance(url, str) else url
    host, port = getattr(parts, "hostname", None), getattr(parts, "port", None)
    return {"server.address": host, "server.port": port or _DEFAULT_PORT} if host else {}
