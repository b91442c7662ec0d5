"""Instruments hear of each request once that it started and once how it ended, or that it was refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar

import anyio
import pytest

import natsery
from natsery import FailureCause, Outcome
from natsery.abc import Connection
from natsery.testing import MemoryBroker

from ..bounds import bounded
from ..calc_service import add, config, error_of
from ..virtual_time import IN_VIRTUAL_TIME

pytestmark = [pytest.mark.anyio, IN_VIRTUAL_TIME]


class Recorder(natsery.Instrument):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.started: list[bytes] = []
        self.ended: list[tuple[bytes, Outcome]] = []
        self.refused: list[tuple[str, bytes | None, Outcome]] = []
        self.denied: list[tuple[str, str]] = []

    def request_started(self, request: natsery.Request) -> None:
        self.started.append(request.data)

    def request_ended(self, request: natsery.Request, outcome: Outcome) -> None:
        self.ended.append((request.data, outcome))

    def request_refused(self, endpoint: natsery.Endpoint, request: natsery.Request | None, outcome: Outcome) -> None:
        self.refused.append((endpoint.name, None if request is None else request.data, outcome))

    def reply_denied(self, endpoint: natsery.Endpoint, error: natsery.PublishDeniedError) -> None:
        self.denied.append((endpoint.name, error.subject))


ERROR = ValueError("no")


async def good(request: natsery.Request) -> bytes:
    await anyio.sleep(0.25)
    return request.data


async def responds(request: natsery.Request) -> None:
    await request.respond(b"1")
    await request.respond(b"2")


async def silent(request: natsery.Request) -> None:
    """Has nothing to say."""


async def raises(request: natsery.Request) -> bytes:
    raise ERROR


async def refuses(request: natsery.Request) -> bytes:
    raise natsery.ServiceError(404, "none")


async def refuses_oddly(request: natsery.Request) -> bytes:
    raise natsery.ServiceError(200, "no")


async def responds_error(request: natsery.Request) -> None:
    await request.respond_error(409, "taken")


async def fails_twice(request: natsery.Request) -> None:
    await request.respond_error(409, "taken")
    raise ERROR


async def streams(request: natsery.Request) -> AsyncIterator[bytes]:
    yield b"1"
    raise ERROR


async def typed(body: int) -> int:
    return body


async def not_bytes(request: natsery.Request) -> bytes:
    return 5  # type: ignore[return-value]


@natsery.endpoint(timeout=0.5)
async def slow(request: natsery.Request) -> None:
    await anyio.sleep_forever()


OUTCOMES: list[tuple[Callable[..., object], Outcome]] = [
    (good, Outcome(200, duration=0.25)),
    (responds, Outcome(200)),
    (silent, Outcome(200)),
    (raises, Outcome(500, FailureCause.EXCEPTION, "Internal Server Error", error=ERROR)),
    (refuses, Outcome(404, FailureCause.SERVICE_ERROR, "none")),
    (refuses_oddly, Outcome(200, FailureCause.SERVICE_ERROR, "no")),
    (responds_error, Outcome(409, FailureCause.SERVICE_ERROR, "taken")),
    (fails_twice, Outcome(409, FailureCause.SERVICE_ERROR, "taken", error=ERROR)),
    (streams, Outcome(500, FailureCause.EXCEPTION, "Internal Server Error", error=ERROR)),
    (typed, Outcome(400, FailureCause.INVALID_BODY, "Invalid Body: $: is not JSON: Expecting value at character 0")),
    (not_bytes, Outcome(500, FailureCause.EXCEPTION, "Internal Server Error")),
    (slow, Outcome(504, FailureCause.TIMEOUT, "Deadline Exceeded", duration=0.5)),
]


@pytest.mark.parametrize(("handler", "expected"), OUTCOMES, ids=[each[0].__name__ for each in OUTCOMES])
@pytest.mark.parametrize("headers", [None, {"A": "b"}], ids=["plain", "headers"])
async def test_each_request_has_one_outcome(
    nc: Connection, handler: natsery.EndpointHandler, expected: Outcome, headers: dict[str, str] | None
) -> None:
    recorder = Recorder()
    clock = natsery.Clock(monotonic_ns=lambda: round(anyio.current_time() * 1e9))
    async with (
        bounded(),
        natsery.serve(nc, config(handler, instruments=[recorder], clock=clock)) as service,
        nc.subscribe("replies") as replies,
    ):
        (endpoint,) = service.endpoints
        await nc.publish(endpoint.subject, b"x", reply="replies", headers=headers)
        while not recorder.ended:
            await anyio.sleep(0.01)
        if handler is not silent:
            # The outcome is final after the reply has left.
            with anyio.fail_after(0.001):
                await replies.receive()
    ((data, outcome),) = recorder.ended
    assert (recorder.started, data, recorder.refused) == ([b"x"], b"x", [])
    assert outcome[:3] == expected[:3]
    assert outcome.duration == pytest.approx(expected.duration)
    assert outcome.waited == pytest.approx(0)
    assert outcome.is_good is (expected.cause is None)
    if expected.error is not None:
        assert outcome.error is expected.error
    (stats,) = service.stats().endpoints
    assert (stats.num_requests, stats.num_errors) == (1, expected.cause is not None)


async def test_the_wait_for_a_worker_is_not_in_the_duration(nc: Connection) -> None:
    recorder = Recorder()
    async with bounded(), natsery.serve(nc, config(good, instruments=[recorder])):
        for _ in range(3):
            await nc.publish("good", reply="r")
        await nc.request("good")
    assert [outcome.waited for _, outcome in recorder.ended] == pytest.approx([0, 0.25, 0.5, 0.75])


async def test_what_no_handler_sees_is_refused(nc: Connection) -> None:
    recorder = Recorder()
    begun = anyio.Event()

    @natsery.endpoint(pending_messages=1, pending_seconds=1)
    async def stuck(request: natsery.Request) -> None:
        begun.set()
        await anyio.sleep(2)
        if request.data == b"3":
            await anyio.sleep_forever()

    async with bounded(), natsery.serve(nc, config(stuck, instruments=[recorder]), grace=1):
        await nc.publish("stuck", b"0", reply="$SYS.x")
        await nc.publish("stuck", b"1", reply="r")
        await begun.wait()
        await nc.publish("stuck", b"expires", reply="r")
        await nc.publish("stuck", b"2", reply="r")
        await anyio.sleep(2.5)
        await nc.publish("stuck", b"3", reply="r")
        await anyio.sleep(0.1)
        await nc.publish("stuck", b"4", reply="r")
        await anyio.sleep(0.1)
    assert recorder.started == [b"1", b"3"]
    assert [(name, data, outcome[:3]) for name, data, outcome in recorder.refused] == [
        ("stuck", b"0", (400, FailureCause.MALFORMED, "Bad Reply Subject")),
        ("stuck", b"2", (503, FailureCause.OVERLOADED, "Service Overloaded")),
        ("stuck", b"expires", (504, FailureCause.EXPIRED, "Deadline Exceeded")),
        ("stuck", b"4", (503, FailureCause.STOPPING, "Service Stopping")),
    ]
    refused = [outcome for _, _, outcome in recorder.refused]
    assert [(outcome.duration, type(outcome.error)) for outcome in refused] == [
        (0, type(None)),
        (0, type(None)),
        (0, natsery.DeadlineExceededError),
        (0, type(None)),
    ]
    # Until the worker was free to see it, and until the grace was over.
    assert [outcome.waited for outcome in refused] == pytest.approx([0, 0, 2, 1.1])
    assert [(data, outcome[:3]) for data, outcome in recorder.ended] == [
        (b"1", (200, None, "")),
        (b"3", (503, FailureCause.STOPPING, "Service Stopping")),
    ]


async def test_what_is_lost_on_the_way_is_refused_and_counted(broker: MemoryBroker, nc: Connection) -> None:
    recorder, lost_before = Recorder(), []

    def tell(error: Exception, endpoint: natsery.Endpoint | None, request: natsery.Request | None) -> None:
        assert isinstance(error, natsery.SlowConsumerError)
        assert endpoint is service.endpoints[0]
        lost_before.append(error.dropped)

    options = {"instruments": [recorder], "error_handler": tell}
    async with bounded(), natsery.serve(nc, config(add, **options)) as service:
        for count in (2, 1):
            broker.drop(nc, "add", count)
            for _ in range(count):
                await nc.publish("add", b"1+1", reply="replies")
            assert (await nc.request("add", b"1+1")).data == b"2"
    (stats,) = service.stats().endpoints
    assert (stats.num_requests, stats.failures) == (5, {"undeliverable": 3})
    assert stats.last_error == "503:Slow Consumer"
    lost = Outcome(503, FailureCause.UNDELIVERABLE, "Slow Consumer")
    assert recorder.refused == [("add", None, lost)] * 3
    assert lost_before[-1] == 3


async def test_a_reply_that_is_denied_after_its_outcome_was_told_is_told(broker: MemoryBroker, nc: Connection) -> None:
    """Instruments went on believing that the request had ended well."""
    recorder = Recorder()
    denied = anyio.Event()

    def hear(error: Exception, *_: object) -> None:
        if isinstance(error, natsery.PublishDeniedError):
            denied.set()

    async def early(request: natsery.Request) -> None:
        await request.respond()
        await denied.wait()

    broker.permit(nc, publish=["add", "early"])
    async with bounded():
        async with natsery.serve(nc, config(add, early, instruments=[recorder], error_handler=hear)) as service:
            await nc.publish("early", b"early", reply="replies.early")
            await denied.wait()
            await nc.publish("add", b"1+1", reply="replies.1")
    added, responded = service.stats().endpoints
    assert recorder.denied == [("add", "replies.1")]
    # Told once, as what it is: the denial came while it was in hand.
    assert [(data, outcome.cause) for data, outcome in recorder.ended] == [
        (b"early", FailureCause.UNDELIVERABLE),
        (b"1+1", None),
    ]
    assert (added.failures, responded.failures) == ({"undeliverable": 1}, {"undeliverable": 1})


async def test_each_denied_reply_is_reported_with_its_endpoint(broker: MemoryBroker, nc: Connection) -> None:
    """Of the second denied reply to a request, and of an error reply, only the subject was told."""
    recorder = Recorder()
    heard: list[tuple[str, str | None]] = []

    def hear(error: Exception, endpoint: natsery.Endpoint | None, request: natsery.Request | None) -> None:
        if isinstance(error, natsery.PublishDeniedError):
            heard.append((error.subject, endpoint and endpoint.name))

    async def parts(request: natsery.Request) -> AsyncIterator[bytes]:
        yield b"1"
        yield b"2"

    broker.permit(nc, publish=["parts", "responds", "add"])
    served = config(parts, responds, add, instruments=[recorder], error_handler=hear)
    async with bounded(), natsery.serve(nc, served) as service:
        for name in ("parts", "responds", "add"):
            await nc.publish(name, b"no sum", reply=f"replies.{name}")
    # The end of the stream is one, too.
    assert Counter(heard) == {
        ("replies.parts", "parts"): 3,
        ("replies.responds", "responds"): 2,
        ("replies.add", "add"): 1,
    }
    assert sorted(recorder.denied) == [("parts", "replies.parts"), ("responds", "replies.responds")]
    assert [each.failures for each in service.stats().endpoints] == [
        {"undeliverable": 1},
        {"undeliverable": 1},
        {"service_error": 1},
    ]


@pytest.mark.parametrize("how", ["answered", "error", "told", "cut off"])
async def test_a_detached_request_ends_when_it_is_answered(nc: Connection, how: str) -> None:
    recorder = Recorder()
    clock = natsery.Clock(monotonic_ns=lambda: round(anyio.current_time() * 1e9))

    async def later(request: natsery.Request) -> None:
        tasks.start_soon(answer, request.detach())

    async def answer(detached: natsery.DetachedRequest) -> None:
        await anyio.sleep(1)
        assert recorder.ended == []
        if how == "cut off":
            await anyio.sleep_forever()
        async with detached as request:
            if how == "error":
                raise natsery.ServiceError(404, "none")
            if how == "told":
                await request.respond_error(409, "taken")
            else:
                await request.respond(b"1")

    async with bounded(), anyio.create_task_group() as tasks:
        async with natsery.serve(nc, config(later, instruments=[recorder], clock=clock), grace=2):
            await nc.publish("later", reply="r")
            await anyio.sleep(0.5)
        tasks.cancel_scope.cancel()
    ((_, outcome),) = recorder.ended
    assert outcome.code == {"answered": 200, "error": 404, "told": 409, "cut off": 503}[how]
    assert outcome.duration == pytest.approx(2.5 if how == "cut off" else 1)


CURRENT: ContextVar[bytes] = ContextVar("current", default=b"none")


class InContext(natsery.Instrument):
    """Has a context variable set in handlers."""

    @contextmanager
    def request_started(self, request: natsery.Request) -> AbstractContextManager[None]:  # type: ignore[override,misc]
        token = CURRENT.set(request.data)
        try:
            yield
        finally:
            CURRENT.reset(token)


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_a_handler_runs_inside_of_what_is_returned(nc: Connection, concurrency: int) -> None:
    @natsery.endpoint(concurrency=concurrency)
    async def current(request: natsery.Request) -> bytes:
        await anyio.sleep(float(request.data))
        return await anyio.to_thread.run_sync(CURRENT.get) if request.data == b"0" else CURRENT.get()

    async def check(data: bytes) -> None:
        assert (await nc.request("current", data)).data == data

    async with bounded(), natsery.serve(nc, config(current, instruments=[InContext()])):
        async with anyio.create_task_group() as tasks:
            for data in (b"0.3", b"0.2", b"0.1"):
                tasks.start_soon(check, data)
    assert CURRENT.get() == b"none"


@pytest.mark.parametrize("method", ["request_started", "request_ended", "request_refused", "enter", "exit"])
@pytest.mark.parametrize("error", [ValueError("broken"), SystemExit(3)], ids=["error", "exit"])
async def test_one_that_raises_is_told_nothing_more(
    nc: Connection, method: str, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[str] = []

    class Broken(natsery.Instrument):
        def __getattribute__(self, name: str) -> object:
            if name != method:
                return super().__getattribute__(name)

            def fail(*_: object) -> None:
                calls.append(name)
                raise error

            return fail

    class BrokenContext(natsery.Instrument):
        @contextmanager
        def request_started(self, request: natsery.Request) -> AbstractContextManager[None]:  # type: ignore[override,misc]
            calls.append(method)
            if method == "enter":
                raise error
            yield
            raise error

    recorder = Recorder()
    broken = BrokenContext() if method in ("enter", "exit") else Broken()
    expected = pytest.raises(SystemExit) if isinstance(error, SystemExit) else anyio.CancelScope()
    with expected:
        async with bounded(), natsery.serve(nc, config(add, instruments=[broken, recorder])):
            if method == "request_refused":
                await nc.publish("add", b"1+2", reply="$SYS.x")
                await nc.publish("add", b"1+2", reply="$SYS.x")
            assert (await nc.request("add", b"1+2")).data == b"3"
            await nc.request("add", b"1+2")
            await anyio.sleep(1)
    assert calls == [method]
    if not isinstance(error, SystemExit):
        assert recorder.started == [b"1+2", b"1+2"]
        assert len(recorder.ended) == 2
        assert f"the instrument {type(broken).__name__}, which is told nothing more, raised" in caplog.text
    assert "broken" in caplog.text or isinstance(error, SystemExit)
    caplog.clear()


async def test_a_request_that_was_cut_off_ends_once(nc: Connection) -> None:
    """Whatever its handler, which shields itself, does afterwards."""
    begun = anyio.Event()

    async def shielded(request: natsery.Request) -> bytes:
        begun.set()
        with anyio.CancelScope(shield=True):
            await anyio.sleep(1)
        return b"late"

    recorder, told = Recorder(), []
    served = config(shielded, instruments=[recorder], error_handler=lambda error, *_: told.append(error))
    async with bounded(), nc.subscribe("replies") as replies:
        async with natsery.serve(nc, served, grace=0) as service:
            await nc.publish("shielded", b"1", reply="replies")
            await begun.wait()
        assert error_of(await replies.receive()) == "503:Service Stopping"
        await nc.flush()
        assert not replies._has_pending()
    assert [(data, outcome.code) for data, outcome in recorder.ended] == [(b"1", 503)]
    assert told == []
    stats = service.stats().endpoints[0]
    assert (stats.num_requests, stats.failures) == (1, {"stopping": 1})


async def test_nothing_is_kept_of_requests_that_have_ended(nc: Connection) -> None:
    async with bounded(), natsery.serve(nc, config(add, raises, slow, instruments=[Recorder()]), grace=0) as service:
        for subject in ("add", "raises", "slow"):
            await nc.publish(subject, b"1+2", reply="$SYS.x")
            await nc.request(subject, b"1+2")
            await nc.publish(subject, b"1+2")
    for endpoint in service.endpoints:
        assert endpoint._queue.endings.observer is not None
        assert endpoint._queue.endings.observer._waited == {}


async def test_the_error_handler_gets_the_request(nc: Connection) -> None:
    heard: list[tuple[type[Exception], str | None, bytes | None]] = []

    def hear(error: Exception, endpoint: natsery.Endpoint | None, request: natsery.Request | None) -> None:
        heard.append((type(error), endpoint and endpoint.name, request and request.data))

    @natsery.endpoint(pending_seconds=1, timeout=2)
    async def slow(request: natsery.Request) -> None:
        await anyio.sleep_forever()

    async with bounded(), natsery.serve(nc, config(slow, raises, error_handler=hear)):
        await nc.publish("slow", b"1", reply="r")
        await nc.publish("slow", b"2", reply="r")
        await nc.request("raises", b"3")
        await nc.publish("raises", b"4", reply="$SYS.x")
        await anyio.sleep(3)
    assert heard == [
        (ValueError, "raises", b"3"),
        (natsery.MalformedRequestError, "raises", b"4"),
        (natsery.DeadlineExceededError, "slow", b"1"),
        (natsery.DeadlineExceededError, "slow", b"2"),
    ]


async def test_log_records_say_what_they_concern(nc: Connection, caplog: pytest.LogCaptureFixture) -> None:
    async with bounded(), natsery.serve(nc, config(natsery.group("a", [raises]))) as service:
        await nc.request("a.raises")
    (record,) = [each for each in caplog.records if "raised" in each.getMessage()]
    assert (
        record.__dict__ | {"service": "calc", "instance": service.id, "endpoint": "raises", "subject": "a.raises"}
        == record.__dict__
    )
    caplog.clear()


async def test_it_costs_nothing_where_there_is_none(broker: MemoryBroker, nc: Connection) -> None:
    """The handler of an endpoint without options is the function itself."""
    async with bounded(), natsery.serve(nc, config(add)) as service:
        await nc.request("add", b"1+2")
        queue = service.endpoints[0]._queue
        assert queue.handler is add
        assert queue.intake == queue.deliver


async def test_the_life_of_a_service_is_told(nc: Connection) -> None:
    told: list[tuple[str, int]] = []

    class Lives(natsery.Instrument):
        def service_started(self, service: natsery.Service) -> None:
            told.append((service.name, len(service.endpoints)))

        def service_ended(self, service: natsery.Service) -> None:
            assert service.pending == 0
            told.append((service.name, -1))

    lives = Lives()
    async with bounded(), natsery.serve(nc, config(add, instruments=[lives])) as service:
        assert service.endpoints[0].service is service
        assert told == [("calc", 1)]
    assert told == [("calc", 1), ("calc", -1)]

    @natsery.endpoint
    async def never(request: natsery.Request) -> None:
        """Not called."""

    with anyio.CancelScope() as scope:
        scope.cancel()
        async with natsery.serve(nc, config(never, instruments=[lives])):
            raise AssertionError
    assert len(told) == 2


async def test_an_instrument_that_fails_for_two_requests_at_a_time_is_left_out_once(
    nc: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(natsery.Instrument):
        @contextmanager
        def request_started(self, request: natsery.Request) -> Iterator[None]:
            yield
            raise LookupError

    both, let_go = anyio.Event(), anyio.Event()
    in_hand: list[natsery.Request] = []

    @natsery.endpoint(concurrency=2)
    async def held(request: natsery.Request) -> bytes:
        in_hand.append(request)
        if len(in_hand) == 2:
            both.set()
        await let_go.wait()
        return b"held"

    async with bounded(), natsery.serve(nc, config(held, instruments=[Broken()])), nc.subscribe("replies") as replies:
        for _ in range(2):
            await nc.publish("held", reply="replies")
        await both.wait()
        let_go.set()
        assert [(await replies.receive()).data for _ in range(2)] == [b"held"] * 2
    (record,) = [each for each in caplog.records if each.exc_info]
    assert "Broken" in record.getMessage()
