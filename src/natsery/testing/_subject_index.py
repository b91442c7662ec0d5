"""The subscriptions of a `MemoryBroker` by subject, so that a message is compared with few of them."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, final

from .._subjects import has_wildcard, tokens_match

if TYPE_CHECKING:
    from ._memory_connection import MemorySubscription

_by_number = attrgetter("number")


@final
class SubjectIndex:
    """Finds the subscriptions to a subject; only those with wildcards are compared with it."""

    def __init__(self) -> None:
        # As dictionaries, because they keep the order, and remove each as quickly.
        self._literal: dict[str, dict[MemorySubscription, None]] = {}
        self._wildcard: dict[MemorySubscription, list[str]] = {}

    def add(self, subscription: MemorySubscription) -> None:
        """Add a subscription."""
        subject = subscription.subject
        if has_wildcard(subject):
            self._wildcard[subscription] = subject.split(".")
        else:
            self._literal.setdefault(subject, {})[subscription] = None

    def discard(self, subscription: MemorySubscription) -> None:
        """Remove a subscription, if it is there."""
        self._wildcard.pop(subscription, None)
        same = self._literal.get(subscription.subject)
        if same is not None:
            same.pop(subscription, None)
            if not same:
                del self._literal[subscription.subject]

    def receivers(self, subject: str) -> list[MemorySubscription]:
        """Return the subscriptions that get what is published to a subject, in the order in which they were made."""
        found = [each for each in self._literal.get(subject, ()) if each.is_receiving]
        if self._wildcard:
            given = subject.split(".")
            matching = [
                each for each, wanted in self._wildcard.items() if tokens_match(wanted, given) and each.is_receiving
            ]
            if matching:
                found = sorted((*found, *matching), key=_by_number)
        return found
