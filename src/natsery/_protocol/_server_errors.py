"""The meaning of -ERR texts."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Final, NamedTuple

from .._errors import AuthorizationError, NatseryError, PublishDeniedError, ServerError

# Servers quote as Go's %q does.
_QUOTED: Final = r'"(?P<{}>(?:[^"\\]|\\.)*)"'
_ESCAPE = re.compile(r'\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|([abfnrtv"\\]))')
_ESCAPED: Final = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", '"': '"', "\\": "\\"}

_SUBSCRIPTION_DENIED = re.compile(
    rf"permissions violation for subscription to {_QUOTED.format('subject')}"
    rf'(?: using queue {_QUOTED.format("queue")})?(?: \(sid "?(?P<sid>[0-9]+)"?\))?',
    re.IGNORECASE,
)
_PUBLISH_DENIED = re.compile(
    rf"permissions violation for publish(?: with reply of| to) {_QUOTED.format('subject')}", re.IGNORECASE
)

_TOO_MANY_SUBSCRIPTIONS: Final = "maximum subscriptions exceeded"

_UNAUTHORIZED: Final = (
    "authorization violation",
    "authentication expired",
    "authentication revoked",
    "bad credentials",
    "no credentials provided",
)


class DeniedSubscription(NamedTuple):
    """A subscription that a server has denied; the sid is empty if the server has not named it."""

    subject: str
    queue_group: str
    sid: bytes


def denied_subscription(text: str) -> DeniedSubscription | None:
    """Return the subscription that an error denies, or ``None`` if it is another error."""
    match = _SUBSCRIPTION_DENIED.search(text)
    if match is None:
        return None
    return DeniedSubscription(_unquote(match["subject"]), _unquote(match["queue"] or ""), (match["sid"] or "").encode())


def is_too_many_subscriptions(text: str) -> bool:
    """Return whether an error refuses a subscription, without naming it, because the connection has too many."""
    return _TOO_MANY_SUBSCRIPTIONS in text.lower()


def server_error(text: str, hide: Callable[[str], str] = str) -> NatseryError:
    """Return the exception for an error that does not concern a subscription.

    Args:
        text: the error as the server has sent it.
        hide: takes secrets out of what the exception shows; what the error means is read before that.
    """
    if denied := _PUBLISH_DENIED.search(text):
        subject = _unquote(denied["subject"])
        return PublishDeniedError(subject, shown=hide(subject))
    lowered = text.lower()
    if any(each in lowered for each in _UNAUTHORIZED):
        return AuthorizationError(hide(text))
    return ServerError(hide(text))


def _unquote(text: str) -> str:
    return _ESCAPE.sub(_unescape, text)


def _unescape(match: re.Match[str]) -> str:
    if match[4]:
        return _ESCAPED[match[4]]
    number = int(match[1] or match[2] or match[3], 16)
    is_character = number <= sys.maxunicode and not 0xD800 <= number <= 0xDFFF
    return chr(number) if is_character else match[0]
