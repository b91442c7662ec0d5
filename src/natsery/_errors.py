"""Every error that natsery raises or reports."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TypeVar, final

ErrorT = TypeVar("ErrorT", bound=Exception)


class NatseryError(Exception):
    """Base of all errors that natsery raises or reports."""


@final
class ConfigError(NatseryError, ValueError):
    """A value of a configuration breaks a rule; raised where the value is written, before anything starts.

    Configuration is what describes a service, an endpoint, a group or a connection. Arguments of other calls raise plain
    `TypeError` and `ValueError`; this is a `ValueError` too.

    Attributes:
        field: what the value was for, such as ``"ServiceConfig.name"``.
        value: the value as it was given.
        reason: the rule that it breaks.
    """

    def __init__(self, field: str, value: object, reason: str) -> None:
        super().__init__(field, value, reason)
        self.field = field
        self.value = value
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}; got {shorten(self.value)}"


def another(error: ErrorT) -> ErrorT:
    """Return a copy of an error, to be raised where it is raised more than once: each time lengthens its traceback."""
    copied = copy.copy(error)
    copied.__cause__ = error.__cause__
    return copied


def printable(text: str) -> str:
    """Return a text that was received as an error shows it: what could forge or garble a log is escaped."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def plain_text(text: str, limit: int) -> str:
    """Return the beginning of a text from a stranger, as printable ASCII that may go anywhere."""
    shown = printable(text[:limit]).encode("ascii", "backslashreplace").decode()
    return shown if len(text) <= limit and len(shown) <= limit else f"{shown[: limit - 3]}..."


def shorten(value: object, limit: int = 200) -> str:
    """Return a value as an error shows it."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


@final
class ConnectionClosedError(NatseryError):
    """The connection is closed for good, by its owner or because the server cannot be reached any more."""

    def __init__(self, message: str = "the NATS connection is closed") -> None:
        super().__init__(message)

    @classmethod
    def because(cls, reason: Exception | None) -> ConnectionClosedError:
        """Return the error that says why the connection is closed, caused by ``reason``; ``None`` if its owner closed it."""
        if reason is None:
            return cls()
        error = cls(f"the NATS connection is closed: {_describe(reason)}")
        error.__cause__ = reason
        return error


@final
class ConnectError(NatseryError):
    """No server could be reached.

    Attributes:
        failures: each server that was tried, as a URL without secrets, and what went wrong there.
    """

    def __init__(self, failures: Sequence[tuple[str, Exception]]) -> None:
        super().__init__(failures)
        self.failures: tuple[tuple[str, Exception], ...] = tuple(failures)

    def __str__(self) -> str:
        tried = "; ".join(_describe_at(server, error) for server, error in self.failures)
        return f"cannot connect to NATS ({tried})"


def _describe(error: Exception) -> str:
    # Without the number, such as [Errno 111], where there are words.
    text = error.strerror if isinstance(error, OSError) else None
    return text or str(error) or type(error).__name__


def _describe_at(server: str, error: Exception) -> str:
    text = _describe(error)
    return text if server in text else f"{server}: {text}"


@final
class AuthorizationError(NatseryError):
    """The server refuses these credentials, or accepts them no longer.

    Attributes:
        text: what the server said.
        server: the server, as a URL without secrets; empty if a connection that was accepted before is refused.
    """

    def __init__(self, text: str, server: str = "") -> None:
        super().__init__(text, server)
        self.text = text
        self.server = server

    def __str__(self) -> str:
        return f"{self.server or 'the server'} refuses the credentials: {printable(self.text)}"


@final
class SecureConnectionError(NatseryError):
    """TLS is wanted and cannot be had; nothing secret was sent."""


@final
class ProtocolError(NatseryError):
    """A server sent what is not the NATS protocol; that network connection is given up.

    Attributes:
        reason: what is wrong.
        received: the beginning of what was received.
    """

    def __init__(self, reason: str, received: bytes = b"") -> None:
        super().__init__(reason, received)
        self.reason = reason
        self.received: bytes = received[:100]

    def __str__(self) -> str:
        return f"not the NATS protocol: {self.reason}; received {self.received!r}"


@final
class MalformedMessageError(NatseryError):
    """A message was dropped because it cannot be read: text that is not UTF-8, a broken header block, or too many headers.

    Attributes:
        reason: what is wrong.
        subject: its subject, as far as it can be read.
    """

    def __init__(self, reason: str, subject: str = "") -> None:
        super().__init__(reason, subject)
        self.reason = reason
        self.subject = subject

    def __str__(self) -> str:
        return f"message on {self.subject!r} dropped: {self.reason}"


@final
class ServerError(NatseryError):
    """A server sent ``-ERR``.

    Attributes:
        text: what it said.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"the server reports an error: {printable(self.text)}"


@final
class ConnectionLostError(NatseryError):
    """A network connection to a server ended, or the server answers no more."""


class PermissionDeniedError(NatseryError):
    """What was sent is not allowed to this user: the base of `SubscriptionDeniedError` and `PublishDeniedError`.

    Attributes:
        subject: the subject that was refused.
    """

    subject: str


@final
class SubscriptionDeniedError(PermissionDeniedError):
    """The server refused a subscription, at its start or later when permissions changed.

    Attributes:
        subject: the subject that was refused.
        queue_group: its queue group, ``""`` if none.
        endpoint: the endpoint's name, or ``None`` for a subscription that is not an endpoint's.
    """

    def __init__(self, subject: str, queue_group: str = "", *, endpoint: str | None = None) -> None:
        super().__init__(subject, queue_group)
        self.subject = subject
        self.queue_group = queue_group
        self.endpoint = endpoint

    def __str__(self) -> str:
        owner = f"endpoint {self.endpoint!r}: " if self.endpoint is not None else ""
        queue = f" (queue group {self.queue_group!r})" if self.queue_group else ""
        hint = "check this user's permissions"
        if self.endpoint is None and self.subject.startswith("_INBOX."):
            # Whoever has chosen no prefix may not know that replies need a subscription.
            hint += ", or connect with an inbox_prefix (--inbox-prefix) that they allow"
        return f"{owner}the server denies subscribing to {self.subject!r}{queue}; {hint}"


@final
class PublishDeniedError(PermissionDeniedError):
    """The server refused a message that was already sent: this user may not publish to its subject.

    Attributes:
        subject: the subject as the server named it; through nats-py that is in lower case.
    """

    def __init__(self, subject: str, hint: str = "check this user's permissions", *, shown: str | None = None) -> None:
        self._shown = subject if shown is None else shown  # without secrets that the server has put into it
        super().__init__(self._shown, hint)
        self.subject = subject
        self._hint = hint

    def concerns(self, subject: str) -> bool:
        """Whether it may be about a message to ``subject``."""
        return self.subject in (subject, subject.lower())

    def __str__(self) -> str:
        return f"the server denies publishing to {self._shown!r}; {self._hint}"


class PublishError(NatseryError):
    """A message could not be handed to the connection."""


@final
class MaxPayloadError(PublishError):
    """A message is larger than the server takes; nothing of it was sent.

    Attributes:
        size: bytes of headers and payload together.
        limit: the server's ``max_payload``, in bytes.
    """

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(size, limit)
        self.size = size
        self.limit = limit

    def __str__(self) -> str:
        return f"a message of {self.size} bytes (headers counted) is over the server's max_payload of {self.limit}"


@final
class OutboundBufferError(PublishError):
    """The connection is away and its output buffer is full; the message was not taken."""

    def __init__(self, message: str = "the connection is away and its output buffer is full") -> None:
        super().__init__(message)


@final
class NoReplySubjectError(PublishError):
    """A reply was given to a message that names no reply subject."""

    def __init__(self, subject: str) -> None:
        super().__init__(subject)
        self.subject = subject

    def __str__(self) -> str:
        return f"the request on {self.subject!r} has no reply subject, so it cannot be answered"


@final
class NoRespondersError(NatseryError):
    """Nobody has got a request: there is no subscription to its subject (the server's status 503), or no instance has answered
    where it should go.

    Attributes:
        subject: that of the request, or of the question where it should go.
        wait: seconds in which the question was not answered, ``None`` if there is no subscription.
    """

    def __init__(self, subject: str, wait: float | None = None) -> None:
        super().__init__(subject, wait)
        self.subject = subject
        self.wait = wait

    def __str__(self) -> str:
        if self.wait is None:
            return f"no responders: there is no subscription to {self.subject!r}"
        return f"no responders: nobody has answered on {self.subject!r} within {self.wait:g} s"


@final
class UnknownEndpointError(NatseryError, LookupError):
    """A service that is there has no endpoint of the name that was called, or none that its name alone can call.

    Attributes:
        service: the service's name.
        endpoint: the name that was called.
        reason: what there is instead.
    """

    def __init__(self, service: str, endpoint: str, reason: str) -> None:
        super().__init__(service, endpoint, reason)
        self.service = service
        self.endpoint = endpoint
        self.reason = reason

    def __str__(self) -> str:
        return f"service {self.service!r}, endpoint {self.endpoint!r}: {self.reason}"


@final
class SlowConsumerError(NatseryError):
    """Messages were dropped because their receiver did not take them in time.

    Attributes:
        subject: the subscription's subject.
        dropped: how many messages have been dropped so far.
    """

    def __init__(self, subject: str, dropped: int) -> None:
        super().__init__(subject, dropped)
        self.subject = subject
        self.dropped = dropped

    def __str__(self) -> str:
        return f"slow consumer on {self.subject!r}: {self.dropped} messages dropped so far"


@final
class MalformedRequestError(NatseryError):
    """A message that cannot be treated as a request, such as one whose reply subject aims at control subjects."""

    def __init__(self, subject: str, reason: str) -> None:
        super().__init__(subject, reason)
        self.subject = subject
        self.reason = reason

    def __str__(self) -> str:
        return f"message on {self.subject!r} ignored: {self.reason}"


@final
class InvalidBodyError(NatseryError, ValueError):
    """The body of a request does not fit the type that the handler takes.

    The handler is not called, and the requester gets the error 400 with this text. Middlewares can catch it.

    Attributes:
        path: where in the body, such as ``$.items[2]``.
        reason: what is wrong there.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"Invalid Body: {self.path}: {self.reason}"


@final
class MalformedReplyError(NatseryError, ValueError):
    """A reply that cannot be read: one to PING, INFO, STATS or a schema request, or one that is not of the type asked for."""


@final
class DecodeError(NatseryError, ValueError):
    """A body does not fit the type that it is to be read as. What it says may be shown to whoever sent the body.

    Both attributes are printable ASCII and short, whatever the body holds; `str` of the error joins them.

    Attributes:
        path: where the body does not fit: ``"$"`` is the whole, ``"$.a[2]"`` the third item of its field ``a``.
        reason: what is wrong there, such as ``"must be an int, got 'x'"``.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path: str = plain_text(path if len(path) <= 90 else f"{path[:45]}...{path[-42:]}", 90)
        self.reason: str = plain_text(reason, 200)

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@final
class EndpointOverloadedError(NatseryError):
    """An endpoint's queue is full and requests are being refused with 503, ``Service Overloaded``."""

    def __init__(self, endpoint: str, limit: str) -> None:
        super().__init__(endpoint, limit)
        self.endpoint = endpoint
        self.limit = limit

    def __str__(self) -> str:
        return f"endpoint {self.endpoint!r} refuses requests: {self.limit}"


@final
class DeadlineExceededError(NatseryError):
    """A request was not finished in time, and its requester gets 504, ``Deadline Exceeded``.

    Attributes:
        endpoint: the endpoint's name.
        seconds: for how long its handler ran, or it waited for that.
        has_started: whether its handler was called.
    """

    def __init__(self, endpoint: str, seconds: float, *, has_started: bool = True) -> None:
        super().__init__(endpoint, seconds)
        self.endpoint = endpoint
        self.seconds = seconds
        self.has_started = has_started

    def __str__(self) -> str:
        what = (
            "was cut off at its deadline, after"
            if self.has_started
            else "expired before it was handled, after a wait of"
        )
        return f"a request to endpoint {self.endpoint!r} {what} {round(self.seconds, 3):g} s"


@final
class ReportsDroppedError(NatseryError):
    """Errors were too many to be reported one by one.

    Attributes:
        count: how many were left out.
        kind: of what kind, such as ``"MalformedRequestError"``.
    """

    def __init__(self, count: int, kind: str) -> None:
        super().__init__(count, kind)
        self.count = count
        self.kind = kind

    def __str__(self) -> str:
        return f"{self.count} more reports of {self.kind} were left out"


@final
class ServiceStoppedError(NatseryError):
    """The service is stopping or has ended, so it takes nothing new."""

    def __init__(self, message: str = "the service is stopping or has ended") -> None:
        super().__init__(message)


@final
class BackendMismatchError(NatseryError, TypeError):
    """A connection was given to a program that cannot drive it; the message says what to write instead."""
