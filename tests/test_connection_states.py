"""A connection in memory, through any sequence of what can happen to it: each subscription gets what it should, in order."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import natsery
from natsery._subjects import matches
from natsery.testing import MemoryBroker

from .portals import Portal, case_of

PATTERNS = ("a", "a.*", "a.b", "a.>", ">", "b")
SUBJECTS = ("a", "a.b", "a.c", "a.b.c", "b")

LOOP_ENDS_AFTER = 3
"""Messages that a subscription with a loop takes before it is left."""


@dataclass
class Sent:
    """A message, by its number; it may be lost if the link is cut while it is on its way."""

    number: int
    is_certain: bool = True


@dataclass
class Expected:
    """A subscription, what it has received and what it should have."""

    pattern: str
    queue_group: str
    subscription: natsery.abc.Subscription
    received: list[int] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)


class ConnectionStates(RuleBasedStateMachine):
    backend: str

    def __init__(self) -> None:
        super().__init__()
        self.portal = Portal(self.backend)
        self.broker = self.portal.enter(MemoryBroker())
        self.nc = self.portal.enter(self.broker.connect())
        self.peer = self.portal.enter(self.broker.connect())
        self.active: list[Expected] = []
        self.ended: list[Expected] = []
        self.groups: dict[int, set[str]] = {}
        """For each message, the queue groups of which one member must have it."""
        self.waiting: list[tuple[str, int]] = []
        """What was published while the connection was away."""
        self.requests: list[Future[natsery.Message]] = []
        self.loops: list[tuple[Future[list[int]], str, list[int]]] = []
        self.number = 0

    def is_away(self) -> bool:
        return not self.nc.is_connected

    def next_number(self) -> int:
        self.number += 1
        return self.number

    def note_sent(self, subject: str, number: int, *, is_certain: bool = True) -> None:
        """Note who should receive a message that the broker routes now."""
        if self.is_away():
            return
        receivers = [each for each in self.active if matches(each.pattern, subject)]
        for each in receivers:
            each.sent.append(Sent(number, is_certain and not each.queue_group))
        if is_certain:
            self.groups[number] = {each.queue_group for each in receivers} - {""}
        for _, pattern, wanted in self.loops:
            if matches(pattern, subject) and len(wanted) < LOOP_ENDS_AFTER and is_certain:
                wanted.append(number)

    # Rules

    @precondition(lambda self: len(self.active) < 6)
    @rule(pattern=st.sampled_from(PATTERNS), queue_group=st.sampled_from(["", "", "q", "r"]))
    def subscribe(self, pattern: str, queue_group: str) -> None:
        received: list[int] = []

        async def subscribe() -> natsery.abc.Subscription:
            return await self.nc.add_subscription(
                pattern, lambda message: received.append(int(message.data)), queue_group=queue_group
            )

        self.active.append(Expected(pattern, queue_group, self.portal.run(subscribe), received))

    @precondition(lambda self: self.active)
    @rule(data=st.data(), twice=st.booleans())
    def unsubscribe(self, data: st.DataObject, twice: bool) -> None:
        expected = data.draw(st.sampled_from(self.active))
        for _ in range(2 if twice else 1):
            self.portal.run(expected.subscription.unsubscribe)
        self.active.remove(expected)
        self.ended.append(expected)

    @precondition(lambda self: self.active and not self.is_away())
    @rule(data=st.data(), count=st.integers(1, 5))
    def unsubscribe_with_messages_on_the_way(self, data: st.DataObject, count: int) -> None:
        """What was sent before arrives, and nothing that was sent later."""
        expected = data.draw(st.sampled_from(self.active))
        subject = data.draw(st.sampled_from(SUBJECTS))
        numbers = [self.next_number() for _ in range(count)]
        late = self.next_number()

        async def publish() -> None:
            for number in numbers:
                await self.peer.publish(subject, b"%d" % number)
            await expected.subscription.unsubscribe()
            await self.peer.publish(subject, b"%d" % late)

        for number in numbers:
            self.note_sent(subject, number)
        self.active.remove(expected)
        self.ended.append(expected)
        self.note_sent(subject, late)
        self.portal.run(publish)

    @rule(pattern=st.sampled_from(PATTERNS))
    def loop(self, pattern: str) -> None:
        """Subscribe for the length of a block, which is left after some messages."""
        if self.loops:
            return

        async def read() -> list[int]:
            found: list[int] = []
            async with self.nc.subscribe(pattern) as messages:
                async for message in messages:
                    found.append(int(message.data))
                    if len(found) == LOOP_ENDS_AFTER:
                        break
            return found

        self.loops.append((self.portal.start(read), pattern, []))

    @precondition(lambda self: self.loops)
    @rule()
    def cancel_loop(self) -> None:
        running, _, wanted = self.loops.pop()
        if len(wanted) == LOOP_ENDS_AFTER:
            assert running.result(0) == wanted
        else:
            assert running.cancel()
            self.portal.settle()

    @rule(subject=st.sampled_from(SUBJECTS), is_own=st.booleans(), count=st.integers(1, 70))
    def publish(self, subject: str, is_own: bool, count: int) -> None:
        """With 70, other tasks have their turn in between."""
        sender: natsery.abc.Connection = self.nc if is_own else self.peer
        numbers = [self.next_number() for _ in range(count)]
        if is_own and self.is_away():
            self.waiting += [(subject, number) for number in numbers]
        for number in numbers:
            self.note_sent(subject, number)

        async def publish() -> None:
            for number in numbers:
                await sender.publish(subject, b"%d" % number)

        self.portal.run(publish)

    @rule(subject=st.sampled_from(SUBJECTS))
    def request(self, subject: str) -> None:
        """Nobody answers; without a subscription there, the broker says so."""
        number = self.next_number()
        has_receiver = any(matches(each.pattern, subject) for each in self.active)
        has_receiver = has_receiver or any(
            matches(pattern, subject) and len(wanted) < LOOP_ENDS_AFTER for _, pattern, wanted in self.loops
        )
        if self.is_away():
            return
        self.note_sent(subject, number)
        reply = self.portal.start(self.nc.request, subject, b"%d" % number)
        if has_receiver:
            assert not reply.done()
            self.requests.append(reply)
        else:
            assert isinstance(reply.exception(0), natsery.NoRespondersError)

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def cancel_request(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(self.requests))
        self.requests.remove(request)
        assert request.cancel()
        self.portal.settle()

    @precondition(lambda self: not self.is_away())
    @rule(subject=st.sampled_from(SUBJECTS), count=st.integers(0, 5))
    def cut(self, subject: str, count: int) -> None:
        """Messages on the way may be lost; those that arrive do so in order."""
        numbers = [self.next_number() for _ in range(count)]
        for number in numbers:
            self.note_sent(subject, number, is_certain=False)

        async def cut() -> None:
            for number in numbers:
                await self.peer.publish(subject, b"%d" % number)
            self.broker.disconnect(self.nc)

        for loop in self.loops[:]:  # nobody knows what they have seen of these
            self.loops.remove(loop)
            loop[0].cancel()
        self.portal.run(cut)

    @precondition(is_away)
    @rule()
    def reconnect(self) -> None:
        """What has waited is sent, in order, once all interest is there again."""
        self.portal.run(self.broker.reconnect, self.nc)
        waiting, self.waiting = self.waiting, []
        for subject, number in waiting:
            self.note_sent(subject, number)

    # What always holds

    @invariant()
    def check_received(self) -> None:
        self.portal.settle()
        for expected in self.active + self.ended:
            numbers = iter(expected.sent)
            for number in expected.received:
                for sent in numbers:
                    if sent.number == number:
                        break
                    assert not sent.is_certain, f"{sent.number} is missing in {expected}"
                else:
                    pytest.fail(f"{number} came too often, too early, or to the wrong place: {expected}")
            missing = [sent.number for sent in numbers if sent.is_certain]
            assert not missing, f"{missing} are missing in {expected}"

    @invariant()
    def check_queue_groups(self) -> None:
        """One member of each group has each message."""
        members = [each for each in self.active + self.ended if each.queue_group]
        seen = [(number, each.queue_group) for each in members for number in each.received]
        assert len(seen) == len(set(seen))
        wanted = {(number, group) for number, groups in self.groups.items() for group in groups}
        assert wanted <= set(seen)

    @invariant()
    def check_interest(self) -> None:
        """The broker has the interest of all subscriptions, and of no others."""
        if self.is_away():
            return
        running = [(pattern, "") for future, pattern, _ in self.loops if not future.done()]
        wanted = sorted([(each.pattern, each.queue_group) for each in self.active] + running)
        subscriptions: Callable[[], list[tuple[str, str]]] = lambda: sorted(  # noqa: E731
            (each.subject, each.queue_group) for each in self.nc._active() if not each.subject.startswith("_INBOX.")
        )
        assert self.portal.run(subscriptions) == wanted

    @invariant()
    def check_requests(self) -> None:
        assert len(self.nc._requests._pending) == len(self.requests)

    @invariant()
    def check_fence(self) -> None:
        if not self.is_away():
            self.portal.run(self.nc.flush)

    def teardown(self) -> None:
        try:
            for request in self.requests:
                request.cancel()
            self.requests.clear()
            if self.is_away():
                self.reconnect()
            self.check_received()
            self.check_requests()
        finally:
            self.portal.close()


TestOnTrio = case_of(ConnectionStates, "trio")
TestOnAsyncio = case_of(ConnectionStates, "asyncio")
