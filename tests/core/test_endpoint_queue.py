"""The endpoint queue: both forms queue, refuse, handle and count the same, in the same order."""

from __future__ import annotations

import gc
import itertools
import sys
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from natsery._core._limits import HOLD_NS, REQUESTS_BETWEEN_YIELDS
from natsery._headers import NO_HEADERS, Headers
from natsery._protocol._headers import read_headers

from .forms import BOTH, COMPILED, PLAIN, needs_both, request_type

generated = settings(max_examples=500)

TIMED = read_headers(b"NATS/1.0\r\nRequest-Timeout-Ms: 5\r\n\r\n")[0]
OTHER = read_headers(b"NATS/1.0\r\nA: 1\r\n\r\n")[0]


class Wait:
    """Waits until the driver of the coroutine goes on."""

    def __init__(self, what) -> None:
        self.what = what

    def __await__(self):
        yield self.what


class Wakeup:
    def __init__(self) -> None:
        self.is_set = False

    def set(self):
        self.is_set = True

    async def wait(self):
        if not self.is_set:
            await Wait(self)
        self.is_set = False


class Cancelled(BaseException):
    pass


class FastPath:
    def __init__(self, form, log) -> None:
        self.log = log
        self.outcome = True
        self._held = form.HeldAnswers()

    def _push_answers(self):
        self.log.append("push")

    def _answer_nowait(self, reply, data):
        self.log.append(("answer", reply, data))
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    async def _send(self, reply, data):
        self.log.append(("send", reply, data))
        await Wait("sending")
        self.log.append(("sent", reply))


def queue_class(form, log):
    """A class of queues of one form that record everything they do."""

    class Queue(form.EndpointQueue):
        coroutines = None

        def _may_answer(self, reply):
            log.append(("may answer", reply))
            return reply.endswith("fine")

        def _drop_malformed(self, request):
            log.append(("malformed", request.number))

        def _refuse_late(self, request):
            log.append(("late", request.number))

        def _has_detached(self):
            log.append("has detached")
            return False

        def _overload(self, request):
            log.append(("overload", request.number))

        def _start_worker(self):
            worker = form.Worker(Wakeup())
            self._workers.append(worker)
            self._waking += 1
            self.coroutines.append((worker, self.work(worker)))
            log.append("start")

        def _check_drained(self):
            log.append(("check", len(self._pending), len(self._idle), len(self._workers)))

        async def _send(self, request, result):
            log.append(("slow send", request.number, type(result), result))
            if result == "raise":
                raise TypeError("not bytes")

        def _keep_silent(self, request):
            log.append(("silent", request.number))

        async def _end_with_error(self, request, error, *, is_replying):
            chain = (error.__cause__, error.__context__, error.__suppress_context__)
            log.append(("error", request.number, repr(error), repr(chain), is_replying, repr(sys.exc_info()[1])))
            if "wait" in str(error):
                await Wait("ending")

        async def _end_abruptly(self, request, error):
            log.append(("abruptly", request.number, repr(error)))
            if isinstance(error, (Cancelled, GeneratorExit)):
                raise error

        def _end_failed(self, request, elapsed_ns):
            log.append(("failed", request.number, request._failure, elapsed_ns))

    return Queue


async def act(request, log):
    """Do as a handler does what a request says."""
    outcome = request.outcome
    if outcome == "wait":
        log.append(await Wait("handling"))
        return b"waited"
    if outcome == "raise and wait":
        raise ValueError("wait")  # which the request does not have, as its traceback leads to the coroutine
    if isinstance(outcome, Change):
        for name, value in outcome.fields.items():
            setattr(request, name, value)
        return outcome.result
    if isinstance(outcome, tuple):
        try:
            raise outcome[0]
        except BaseException:
            if outcome[1] is None:
                raise
            raise outcome[2] from outcome[1]
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


class Change:
    """Sets fields of its request, and returns something."""

    def __init__(self, result, **fields) -> None:
        self.result = result
        self.fields = fields

    def __repr__(self) -> str:
        return f"Change({self.result}, {self.fields})"


def new_queue(form, log, step_ns=7, **limits):
    """A queue of one form whose workers are driven step by step, and for which each look at the clock takes so long."""

    class Request(request_type(form)):
        __slots__ = ("number", "outcome")

    async def checkpoint():
        log.append("checkpoint")
        await Wait("checkpoint")

    async def handle(request):
        in_hand = any(worker.request is request for worker, _ in queue.coroutines)
        log.append(("handle", request.number, request.endpoint, in_hand, repr(sys.exc_info()[1])))
        return await act(request, log)

    async def handle_with_time(request):
        log.append(("handle with time", request.number, request._arrived))
        return await act(request, log)

    counters = form.CounterFields()
    counters.num_requests = counters.processing_time = 0
    time = itertools.count(step_ns, step_ns)
    options = {"concurrency": 2, "max_messages": 4, "max_bytes": 100, **limits}
    queue = queue_class(form, log)(
        "the endpoint",
        FastPath(form, log),
        counters,
        clock_ns=lambda: next(time),
        checkpoint=checkpoint,
        suspicious=frozenset(".$_"),
        **options,
    )
    queue.coroutines = []
    queue.handler, queue.handler_with_time = handle, handle_with_time
    queue.now = lambda: 5.5
    queue.request_type = Request
    return queue


class Driven:
    """What is done with a queue."""

    def __init__(self, form, **limits) -> None:
        self.log = []
        self.queue = new_queue(form, self.log, **limits)
        self.count = 0

    def deliver(self, reply, data, headers, outcome):
        self.count += 1
        request = self.queue.request_type("a", data, reply, headers)
        request.number, request.outcome = self.count, outcome
        self.queue.deliver(request)

    def go_on(self, index, how="send"):
        """Run a worker until it waits; it does not go on while nobody wakes it."""
        coroutines = self.queue.coroutines
        if not coroutines:
            return
        worker, coroutine = coroutines[index % len(coroutines)]
        is_asleep = worker in self.queue._idle
        if how == "send" and is_asleep and not worker.wakeup.is_set:
            return
        try:
            if how == "send":
                self.log.append(("waits", type(coroutine.send(None))))
            elif how == "close":
                coroutine.close()
                raise StopIteration
            else:
                self.log.append(("waits", type(coroutine.throw(Cancelled("stop")))))
        except StopIteration as end:
            self.log.append(("ended", end.value))
            coroutines.remove((worker, coroutine))
        except BaseException as error:
            self.log.append(("raised", repr(error)))
            coroutines.remove((worker, coroutine))

    def answer_with(self, outcome):
        self.queue._fast_path.outcome = outcome

    def cut_off(self):
        self.queue._is_cut_off = True

    def retire(self):
        self.queue._is_retired = True
        while self.queue._idle:
            self.queue._waking += 1
            self.queue._idle.pop().wakeup.set()

    def send_all(self):
        self.queue._fast_path._held.since = 0

    def state(self):
        queue = self.queue
        return (
            [request.number for request in queue._pending],
            queue._pending_bytes,
            sorted(request.number for request in queue._with_time),
            len(queue._workers),
            len(queue._idle),
            queue._waking,
            queue._is_congested,
            queue._counters.num_requests,
            queue._counters.processing_time,
            list(queue._recent_replies),
            queue._fast_path._held.since,
            [getattr(worker.request, "number", None) for worker, _ in queue.coroutines],
            sys.exc_info()[1],
        )

    def end(self):
        for _, coroutine in self.queue.coroutines:
            coroutine.close()


class Payload(bytes):
    pass


replies = st.sampled_from(["", "r", "r.x", "_fine", ".fine", "a..b", "a.", "a*fine", ">", "$x", "é.ü", "r" * 5000])
sizes = st.sampled_from([b"", b"x", b"x" * 30, b"x" * 99, b"x" * 101])
headers = st.sampled_from([NO_HEADERS, NO_HEADERS, TIMED, OTHER, Headers({"A": "1"}), Headers()])
outcomes = st.sampled_from(
    [
        *(b"done", b"", None, Payload(b"x"), bytearray(b"x"), "text", "raise", 5, "wait", "wait"),
        *(Change(b"late", _has_ended=True), Change(None, _is_released=True), Change(None, _has_responded=True)),
        *(Change(b"failed", _failure="failure"), Change(None, _failure="failure")),
        Change(b"changed", reply=None, data=None, headers=None, subject=None),
        Change(None, reply=5, data="text", headers={}, subject=b"x"),
        *(
            LookupError("a"),
            ValueError("wait"),
            Cancelled("own"),
            KeyboardInterrupt("k"),
            SystemExit(3),
            StopAsyncIteration(),
        ),
        *(
            (KeyError("k"), None, None),
            (KeyError("k"), OSError("o"), ValueError("v")),
            (KeyboardInterrupt(), KeyError(), ValueError()),
        ),
        BaseExceptionGroup("group", [KeyboardInterrupt()]),
    ]
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("deliver"), replies, sizes, headers, outcomes),
        st.tuples(st.just("deliver"), st.just("r"), sizes, headers, outcomes),
        st.tuples(st.just("go_on"), st.integers(0, 1)),
        st.tuples(st.just("go_on"), st.integers(0, 1)),
        st.tuples(st.just("go_on"), st.integers(0, 1), st.sampled_from(["send", "send", "throw", "close"])),
        st.tuples(
            st.just("answer_with"), st.sampled_from([True, True, False, OSError("gone"), KeyboardInterrupt("k")])
        ),
        st.sampled_from([("cut_off",), ("retire",), ("send_all",)]),
    ),
    max_size=40,
)


@needs_both
@generated
@given(steps)
def test_both_forms_do_the_same(steps):
    plain, compiled = (Driven(each, step_ns=HOLD_NS // 3) for each in (PLAIN, COMPILED))
    try:
        for name, *arguments in steps:
            for each in (plain, compiled):
                for argument in arguments:
                    forget_tracebacks(argument)
                getattr(each, name)(*arguments)
            assert compiled.log == plain.log
            assert compiled.state() == plain.state()
            plain.log.clear()
            compiled.log.clear()
    finally:
        plain.end()
        compiled.end()


def forget_tracebacks(each):
    for error in each if isinstance(each, tuple) else [each]:
        if isinstance(error, BaseException):
            error.__traceback__ = error.__context__ = error.__cause__ = None


@pytest.mark.parametrize("form", BOTH)
def test_others_get_their_turn(form):
    driven = Driven(form, max_messages=1000, concurrency=1)
    for _ in range(2 * REQUESTS_BETWEEN_YIELDS + 1):
        driven.deliver("r", b"", NO_HEADERS, b"done")
    for turn in (1, 2):
        driven.go_on(0)
        assert driven.log[-2] == "checkpoint"
        assert driven.queue._counters.num_requests == turn * REQUESTS_BETWEEN_YIELDS
    assert driven.queue._counters.processing_time == 7 * 2 * REQUESTS_BETWEEN_YIELDS
    driven.end()


@pytest.mark.parametrize("form", BOTH)
def test_processing_times_are_whole(form):
    """The end of a request is the beginning of the next only if nothing came between."""
    driven = Driven(form, concurrency=1, max_messages=10)
    for _ in range(2):  # the worker begins, and then it has rested
        for outcome in (
            b"1",
            Change(None, _is_released=True),
            b"2",
            None,
            LookupError("no time of its own here"),
            b"5",
        ):
            driven.deliver("r", b"", NO_HEADERS, outcome)
        driven.go_on(0)
    assert driven.queue._counters.num_requests == 8
    assert driven.queue._counters.processing_time == 8 * 7
    driven.end()


@pytest.mark.parametrize("form", BOTH)
def test_answers_do_not_wait_for_long_for_those_after_them(form):
    driven = Driven(form, concurrency=1, max_messages=1000, step_ns=HOLD_NS * 2 // 5)
    for _ in range(2):  # the worker begins, and then it has rested
        for _ in range(8):
            driven.deliver("r", b"", NO_HEADERS, b"done")
        driven.send_all()
        driven.log.clear()
        driven.go_on(0)
        sent = [each for each in driven.log if each == "push" or each[0] == "answer"]
        assert [number for number, each in enumerate(sent) if each == "push"] == [3, 7]
    driven.end()


@pytest.mark.parametrize("form", BOTH)
def test_nor_do_they_wait_while_their_worker_rests_after_a_failure(form):
    driven = Driven(form, concurrency=1, step_ns=HOLD_NS * 2 // 5)
    for outcome in (b"done", LookupError(), LookupError()):
        driven.deliver("r", b"", NO_HEADERS, outcome)
    driven.go_on(0)
    assert driven.log.count("push") == 1
    driven.end()


class Ending(Exception):
    pass


@pytest.mark.parametrize("form", BOTH)
@pytest.mark.parametrize("state", ["idle", "handling", "sending", "ending", "checkpoint"])
@pytest.mark.parametrize("how", ["close", "throw", "forget"])
def test_a_worker_that_ends_anywhere_is_forgotten(form, state, how):
    driven = Driven(form, max_messages=1000, concurrency=1)
    outcome = {"handling": "wait", "ending": "raise and wait"}.get(state, b"done")
    if state == "sending":
        driven.answer_with(False)
    for _ in range(REQUESTS_BETWEEN_YIELDS if state == "checkpoint" else 1):
        driven.deliver("r", b"", NO_HEADERS, outcome)
    driven.go_on(0)
    _, coroutine = driven.queue.coroutines.pop()
    if how == "close":
        coroutine.close()
    elif how == "throw":
        with pytest.raises(Ending):
            coroutine.throw(Ending)
            coroutine.throw(Ending)  # one in a handler is the request's
    del coroutine
    gc.collect()
    assert driven.queue._workers == driven.queue._idle == []


@pytest.mark.parametrize("form", BOTH)
def test_a_worker_that_never_began_may_be_closed(form):
    driven = Driven(form)
    driven.deliver("r", b"", NO_HEADERS, b"done")
    driven.end()
    assert len(driven.queue._workers) == 1


class Witness:
    pass


@pytest.mark.parametrize("form", BOTH)
def test_a_cycle_through_a_suspended_worker_is_collected(form):
    witness = Witness()
    driven = Driven(form, concurrency=1)
    driven.deliver("r", b"", NO_HEADERS, "wait")
    driven.go_on(0)
    driven.log.append(witness)  # which the handler has that waits
    seen = weakref.ref(witness)
    del driven, witness
    gc.collect()
    assert seen() is None


@pytest.mark.parametrize("form", BOTH)
@pytest.mark.parametrize("moment", ["before", "while", "never"])
def test_an_error_may_lose_its_traceback_while_it_is_dealt_with(form, moment):
    error = ValueError("wait")
    driven = Driven(form, concurrency=1)
    driven.deliver("r", b"", NO_HEADERS, error)
    if moment == "before":
        error.__traceback__ = None
    driven.go_on(0)
    if moment == "while":
        error.__traceback__ = None
    driven.go_on(0)
    driven.deliver("r", b"", NO_HEADERS, b"done")
    driven.go_on(0)
    assert driven.queue._counters.num_requests == 1
    driven.end()
