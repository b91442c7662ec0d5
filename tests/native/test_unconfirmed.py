"""What a PONG settles, and which subscription an error without a name is about."""

from __future__ import annotations

import pytest

from natsery._fast_path import Interest
from natsery._home import Home
from natsery._native._subscriptions import NativeSubscription, Subscriptions
from natsery._native._unconfirmed import Fence, Unconfirmed


@pytest.fixture
def subscriptions() -> list[NativeSubscription]:
    known = Subscriptions(Home(), print)
    return [known.add(Interest(subject, "", print, print)) for subject in "abcd"]


@pytest.mark.parametrize("anyio_backend", ["trio"])
@pytest.mark.anyio
async def test_each_pong_passes_the_oldest_fence() -> None:
    unconfirmed, first, second = Unconfirmed(0), Fence(1), Fence(3)
    for messages, fence in ((1, first), (2, None), (3, second)):
        unconfirmed.add_ping(messages, fence)
    assert list(unconfirmed.fences()) == [first, second]
    unconfirmed.confirm()
    assert unconfirmed.confirmed_messages == 1
    assert first.has_passed
    assert first.done.is_set()
    unconfirmed.confirm()
    assert not second.has_passed
    unconfirmed.confirm()
    assert second.has_passed
    assert list(unconfirmed.fences()) == []


def test_a_pong_ends_the_subscriptions_that_were_unsubscribed_before_its_ping(
    subscriptions: list[NativeSubscription],
) -> None:
    unconfirmed = Unconfirmed(0)
    unconfirmed.add_unsubscribed(subscriptions[0])
    unconfirmed.add_ping(0, None)
    unconfirmed.add_unsubscribed(subscriptions[1])
    unconfirmed.add_ping(0, None)
    assert unconfirmed.confirm() == [subscriptions[0]]
    assert unconfirmed.confirm() == [subscriptions[1]]
    assert unconfirmed.confirm() == []


def test_the_newest_that_the_server_can_have_seen_is_refused(subscriptions: list[NativeSubscription]) -> None:
    """A SUB behind the next PING was taken for the one that the server had refused before it."""
    unconfirmed = Unconfirmed(0)
    for each in subscriptions[:3]:
        unconfirmed.add_subscribed(each)
    unconfirmed.add_ping(0, None)
    unconfirmed.add_subscribed(subscriptions[3])
    assert unconfirmed.pop_refused() is subscriptions[2]
    assert unconfirmed.pop_refused() is subscriptions[1]
    unconfirmed.confirm()
    assert unconfirmed.pop_refused() is subscriptions[3]
    assert unconfirmed.pop_refused() is None
