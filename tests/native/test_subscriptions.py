"""The subscriptions of a connection: which ones an error of the server is about."""

from __future__ import annotations

import pytest

from natsery._fast_path import Interest
from natsery._home import Home
from natsery._native._subscriptions import NativeSubscription, Subscriptions
from natsery._protocol._server_errors import DeniedSubscription


@pytest.fixture
def known() -> Subscriptions:
    return Subscriptions(Home(), print)


def add(known: Subscriptions, subject: str, queue_group: str = "") -> NativeSubscription:
    return known.add(Interest(subject, queue_group, print, print))


def test_a_denial_is_about_the_sid_or_else_the_subject_and_the_queue_group(known: Subscriptions) -> None:
    plain, queued, other, again = add(known, "a"), add(known, "a", "q"), add(known, "A"), add(known, "a")
    assert known.denied(DeniedSubscription("a", "", b"")) == [plain, again]
    assert known.denied(DeniedSubscription("a", "q", b"")) == [queued]
    assert known.denied(DeniedSubscription("a", "", other.sid)) == [other]
    assert known.denied(DeniedSubscription("b", "", b"")) == []
    assert known.denied(DeniedSubscription("a", "", b"99")) == []


def test_a_denial_is_about_what_there_is_now(known: Subscriptions) -> None:
    first = add(known, "a")
    denial = DeniedSubscription("a", "", b"")
    assert known.denied(denial) == [first]
    second = add(known, "a")
    assert known.denied(denial) == [first, second]
    known.remove([first])
    assert known.denied(denial) == [second]
    known.clear()
    assert known.denied(denial) == []


class _Looks(dict[bytes, NativeSubscription]):
    """Counts how often all subscriptions are looked through."""

    count = 0

    def values(self):  # type: ignore[no-untyped-def]  # that of a dict
        self.count += 1
        return super().values()


def test_many_denials_look_through_the_subscriptions_once(known: Subscriptions) -> None:
    """Ten thousand denied subscriptions blocked the event loop for half a minute: each error was compared with each of them."""
    looks = known.by_sid = _Looks()
    added = [add(known, f"a.{number}") for number in range(100)]
    assert [known.denied(DeniedSubscription(each.subject, "", b"")) for each in added] == [[each] for each in added]
    assert looks.count == 1
