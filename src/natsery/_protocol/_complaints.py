"""-ERR: what a server's complaint means."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from .._errors import AuthorizationError, NatseryError, PublishDeniedError, ServerComplaintError

_SUBSCRIPTION_DENIED = re.compile(
    r'permissions violation for subscription to "(?P<subject>.*?)"'
    r'(?: using queue "(?P<queue>.*?)")?(?: \(sid "(?P<sid>\d+)"\))?',
    re.IGNORECASE,
)
_PUBLISH_DENIED = re.compile(
    r'permissions violation for publish(?: with reply of| to) "(?P<subject>.*?)"', re.IGNORECASE
)

_TOO_MANY_SUBSCRIPTIONS: Final = "maximum subscriptions exceeded"

_UNAUTHORIZED: Final = (
    "authorization violation",
    "authentication expired",
    "authentication revoked",
    "account authentication expired",
    "user authentication expired",
    "user authentication revoked",
    "bad credentials",
    "no credentials provided",
)


class DeniedSubscription(NamedTuple):
    """A subscription that a server refuses; the sid is empty unless the server named it."""

    subject: str
    queue_group: str
    sid: bytes


def denied_subscription(text: str) -> DeniedSubscription | None:
    """The subscription that a complaint is about, or ``None`` if it is about something else."""
    match = _SUBSCRIPTION_DENIED.search(text)
    if match is None:
        return None
    return DeniedSubscription(match["subject"], match["queue"] or "", (match["sid"] or "").encode())


def is_too_many_subscriptions(text: str) -> bool:
    """Whether a server refused a subscription because this connection has too many; it does not say which one."""
    return _TOO_MANY_SUBSCRIPTIONS in text.lower()


def complaint_error(text: str) -> NatseryError:
    """The error for a complaint that is about no subscription."""
    if denied := _PUBLISH_DENIED.search(text):
        return PublishDeniedError(denied["subject"])
    lowered = text.lower()
    if any(each in lowered for each in _UNAUTHORIZED):
        return AuthorizationError(text)
    return ServerComplaintError(text)
