"""How requests end that fail twice, that cannot be told so, or whose handlers answer a cut-off with something else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import anyio
import pytest

import natsery
from natsery.abc import Connection
from natsery.testing import MemoryBroker, make_request

from ..bounds import bounded
from ..calc_service import add, config, error_of
from .full_buffer import go_on_without_room

pytestmark = pytest.mark.anyio


class Heard(list[tuple[str, bytes | None]]):
    """An error handler that notes what it is told of."""

    def __call__(self, error: Exception, endpoint: natsery.Endpoint | None, request: natsery.Request | None) -> None:
        self.append((type(error).__name__, request and request.data))


class Ended(natsery.Instrument):
    """Notes how each request has ended."""

    def __init__(self) -> None:
        self.outcomes: list[natsery.Outcome] = []

    def request_ended(self, request: natsery.Request, outcome: natsery.Outcome) -> None:
        self.outcomes.append(outcome)


async def test_a_request_that_was_told_of_an_error_is_not_told_of_the_cut_off(nc: Connection) -> None:
    async def taken(request: natsery.Request) -> None:
        await request.respond_error(409, "taken")
        service.stop(grace=0)
        await anyio.sleep_forever()

    async with bounded(), nc.subscribe("replies") as replies:
        async with natsery.serve(nc, config(taken)) as service:
            await nc.publish("taken", reply="replies")
            await service.wait_stopped()
        assert error_of(await replies.receive()) == "409:taken"
        await nc.flush()
        assert not replies._has_pending()
    stats = service.stats().endpoints[0]
    assert (stats.num_requests, stats.failures, stats.last_error) == (1, {"service_error": 1}, "409:taken")


async def test_an_error_for_nobody_is_reported_and_counted(nc: Connection) -> None:
    heard = Heard()
    async with bounded(), natsery.serve(nc, config(add, error_handler=heard)) as service:
        await nc.publish("add", b"not a sum")
        await nc.request("add", b"1+1")
    assert heard == [("NoReplySubjectError", b"not a sum")]
    assert service.stats().endpoints[0].failures == {"service_error": 1}


@pytest.mark.parametrize("error", [natsery.ServiceError(404, "gone"), LookupError("a secret")])
async def test_a_request_whose_error_the_connection_does_not_take_is_undeliverable(
    broker: MemoryBroker, nc: Connection, error: Exception
) -> None:
    """It was counted as a service error or an exception, with the code of a reply that was never sent."""
    heard, ended, let_go = Heard(), Ended(), anyio.Event()

    async def fails(request: natsery.Request) -> None:
        await let_go.wait()
        raise error

    async with bounded(), broker.connect() as server:
        async with natsery.serve(server, config(fails, error_handler=heard, instruments=[ended])) as service:
            await nc.publish("fails", b"1", reply="replies")
            await nc.flush()
            await go_on_without_room(broker, server, let_go)
    assert heard[-1] == ("OutboundBufferError", b"1")
    stats = service.stats().endpoints[0]
    assert (stats.num_requests, stats.failures) == (1, {"undeliverable": 1})
    assert "a secret" not in stats.last_error
    (outcome,) = ended.outcomes
    assert (outcome.code, outcome.cause, outcome.error) == (500, natsery.FailureCause.UNDELIVERABLE, error)


@pytest.mark.parametrize("error", [natsery.OutboundBufferError("full"), LookupError("and then this")])
async def test_what_is_raised_after_a_reply_that_the_connection_did_not_take_is_reported(
    broker: MemoryBroker, nc: Connection, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    now, let_go, ended = 1_000, anyio.Event(), Ended()

    async def answers(request: natsery.Request) -> None:
        nonlocal now
        await let_go.wait()
        now += 5
        with pytest.raises(natsery.OutboundBufferError):
            await request.respond(b"1")
        raise error

    options = {"clock": natsery.Clock(monotonic_ns=lambda: now), "instruments": [ended]}
    async with bounded(), broker.connect() as server:
        async with natsery.serve(server, config(answers, **options)) as service:
            await nc.publish("answers", reply="replies")
            await nc.flush()
            await go_on_without_room(broker, server, let_go)
    assert service.stats().endpoints[0].failures == {"undeliverable": 1}
    assert [(each.duration, each.error) for each in ended.outcomes] == [(5e-9, error)]
    # A library's error says all that there is to say.
    assert [each.exc_info is None for each in caplog.records if each.name == "natsery"] == [
        isinstance(error, natsery.NatseryError)
    ]


async def test_an_answer_that_the_connection_does_not_take_is_reported_and_not_tried_again(
    broker: MemoryBroker, nc: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    let_go = anyio.Event()

    async def answers(request: natsery.Request) -> bytes:
        await let_go.wait()
        return b"1"

    async with bounded(), broker.connect() as server:
        async with natsery.serve(server, config(answers)) as service:
            await nc.publish("answers", reply="replies")
            await nc.flush()
            await go_on_without_room(broker, server, let_go)
    assert service.stats().endpoints[0].failures == {"undeliverable": 1}
    assert [each.exc_info for each in caplog.records if each.name == "natsery"] == [None]


async def test_what_a_handler_fails_to_publish_elsewhere_is_a_failure_that_its_requester_hears_of(
    nc: Connection,
) -> None:
    async def tells(request: natsery.Request) -> bytes:
        raise natsery.OutboundBufferError("of another connection")

    async with bounded(), natsery.serve(nc, config(tells)) as service:
        assert error_of(await nc.request("tells")) == "500:Internal Server Error"
    assert service.stats().endpoints[0].failures == {"exception": 1}


async def test_an_error_that_is_too_large_is_reported_and_sent_without_its_data(
    nc: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    heard = Heard()

    async def fails(request: natsery.Request) -> None:
        raise natsery.ServiceError(404, "gone", data=b"x" * (nc.max_payload + 1))

    async with bounded(), natsery.serve(nc, config(fails, error_handler=heard)) as service:
        reply = await nc.request("fails", b"1")
        assert (error_of(reply), reply.data) == ("500:Maximum Payload Exceeded", b"")
    assert heard == [("MaxPayloadError", b"1")]
    assert [each.exc_info for each in caplog.records if each.name == "natsery"] == [None]
    stats = service.stats().endpoints[0]
    assert (stats.failures, stats.last_error) == ({"undeliverable": 1}, "500:Maximum Payload Exceeded")


Reaction = Callable[[], Awaitable[None]]


async def in_a_group() -> None:
    """Its tasks fail when they are cancelled, so that what leaves has cancellations and an error in it."""

    async def fails_at_the_end() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise LookupError("at the cut-off")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fails_at_the_end)
        await anyio.sleep_forever()


async def with_an_error() -> None:
    try:
        await anyio.sleep_forever()
    finally:
        raise LookupError("at the cut-off")


@pytest.mark.parametrize("react", [in_a_group, with_an_error])
async def test_what_a_handler_raises_at_a_cut_off_is_reported(
    nc: Connection, react: Reaction, caplog: pytest.LogCaptureFixture
) -> None:
    begun = anyio.Event()

    async def stuck(request: natsery.Request) -> None:
        begun.set()
        await react()

    async with bounded(), nc.subscribe("replies") as replies:
        async with natsery.serve(nc, config(stuck), grace=0) as service:
            await nc.publish("stuck", reply="replies")
            await begun.wait()
        assert error_of(await replies.receive()) == "503:Service Stopping"
        await nc.flush()
        assert not replies._has_pending()
    assert service.stats().endpoints[0].failures == {"stopping": 1}
    assert "LookupError: at the cut-off" in caplog.text  # with its traceback


async def test_a_handler_that_is_thrown_away_with_its_event_loop_is_not_answered() -> None:
    """Python closes its coroutine with `GeneratorExit`, after which nothing can be awaited."""
    request, answers = make_request()
    with pytest.raises(GeneratorExit):
        await request.endpoint._queue.endings.end_abruptly(request, GeneratorExit(), 0)
    assert (answers, request.endpoint.stats().num_requests) == ([], 0)


async def test_what_ends_the_program_at_a_cut_off_leaves_the_service(nc: Connection) -> None:
    begun = anyio.Event()

    async def stuck(request: natsery.Request) -> None:
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            raise SystemExit(3)

    async with bounded(), nc.subscribe("replies") as replies:
        with pytest.raises(SystemExit) as caught:
            async with natsery.serve(nc, config(stuck), grace=0):
                await nc.publish("stuck", reply="replies")
                await begun.wait()
        assert caught.value.code == 3
        assert error_of(await replies.receive()) in ("503:Service Stopping", "500:Internal Server Error")


async def test_a_detached_request_that_is_cancelled_before_it_is_open_is_answered(nc: Connection) -> None:
    async def later(request: natsery.Request) -> None:
        requests.append(request.detach())

    requests: list[natsery.DetachedRequest] = []
    async with bounded(), natsery.serve(nc, config(later)) as service, nc.subscribe("replies") as replies:
        await nc.publish("later", reply="replies")
        await nc.flush()
        await anyio.wait_all_tasks_blocked()
        with anyio.CancelScope() as scope:
            scope.cancel()
            async with requests[0]:
                raise AssertionError
        assert error_of(await replies.receive()) == "500:Internal Server Error"
        assert (service.pending, service.stats().endpoints[0].failures) == (0, {"exception": 1})


@pytest.mark.parametrize("error", [None, LookupError("too late")])
async def test_a_detached_request_that_was_cut_off_is_counted_once(
    nc: Connection, error: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    open_now, go_on = anyio.Event(), anyio.Event()

    async def finish(detached: natsery.DetachedRequest) -> None:
        async with detached:
            open_now.set()
            await go_on.wait()
            if error is not None:
                raise error

    async def later(request: natsery.Request) -> None:
        tasks.start_soon(finish, request.detach())

    async with bounded(), anyio.create_task_group() as tasks, nc.subscribe("replies") as replies:
        async with natsery.serve(nc, config(later), grace=0) as service:
            await nc.publish("later", reply="replies")
            await open_now.wait()
        assert error_of(await replies.receive()) == "503:Service Stopping"
        go_on.set()
        await anyio.wait_all_tasks_blocked()
        await nc.flush()
        assert not replies._has_pending()
    stats = service.stats().endpoints[0]
    assert (stats.num_requests, stats.failures) == (1, {"stopping": 1})
    assert ("too late" in caplog.text) is (error is not None)


async def test_a_full_queue_is_reported_once_until_it_has_been_empty(nc: Connection) -> None:
    heard, let_go = Heard(), anyio.Event()

    @natsery.endpoint(pending_messages=1)
    async def slow(request: natsery.Request) -> bytes:
        await let_go.wait()
        return b""

    async with bounded(), natsery.serve(nc, config(slow, error_handler=heard)), nc.subscribe("replies") as replies:
        for _ in range(2):
            let_go = anyio.Event()
            for number in (b"1", b"2", b"3", b"4"):
                await nc.publish("slow", number, reply="replies")
                await nc.flush()
                await anyio.wait_all_tasks_blocked()
            let_go.set()
            for _ in range(4):
                await replies.receive()
    assert heard == [("EndpointOverloadedError", b"3")] * 2


async def test_json_that_was_sent_is_read(nc: Connection) -> None:
    async def total(request: natsery.Request) -> None:
        try:
            await request.respond_json(sum(request.json()))
        except ValueError as error:
            raise natsery.ServiceError(400, str(error)) from None

    async with bounded(), natsery.serve(nc, config(total)):
        assert (await nc.request("total", b"[1, 2]")).data == b"3"
        assert (error_of(await nc.request("total", b"[1, ")) or "").startswith("400:Expecting value")


async def test_what_is_no_service_or_no_endpoint_is_refused(nc: Connection) -> None:
    async with bounded():
        with pytest.raises(TypeError, match=r"config: must be a natsery\.ServiceConfig; got 'calc'"):
            async with natsery.serve(nc, "calc"):  # type: ignore[arg-type]
                raise AssertionError
        async with natsery.serve(nc, config()) as service:
            assert service.add_group("a").add_group("b").prefix == "a.b"
            with pytest.raises(natsery.ConfigError, match=r"^endpoint: must be one endpoint; .*add_group; got .*math"):
                await service.add_endpoint(natsery.group("math", [add]))  # type: ignore[arg-type]


async def test_a_service_for_another_backend_is_refused(nc: Connection) -> None:
    errors = []
    for backend in ("trio", "asyncio"):
        try:
            async with bounded(), natsery.serve(nc, config(backend=backend)):
                pass
        except natsery.BackendMismatchError as error:
            errors.append(str(error))
            assert f"the service 'calc' is for {backend}, and " in errors[0]
    assert len(errors) == 1


async def test_a_service_that_stops_does_not_take_the_endpoint_that_is_being_added(nc: Connection) -> None:
    async def add_one() -> None:
        with pytest.raises(natsery.ServiceStoppedError):
            await service.add_endpoint(add)
        refused.append(True)

    refused: list[bool] = []
    async with bounded(), anyio.create_task_group() as tasks:
        async with natsery.serve(nc, config()) as service:
            tasks.start_soon(add_one)
            while not service._joining:
                await anyio.lowlevel.checkpoint()
            service.stop()
    assert refused == [True]
    assert service.endpoints == ()
    assert "add" not in {each.subject for each in nc._active()}  # type: ignore[attr-defined]


async def test_what_ends_the_program_in_a_handler_counts_a_request_that_has_ended_once(nc: Connection) -> None:
    async def exits(request: natsery.Request) -> None:
        async with request.detach() as detached:
            await detached.respond(b"done")
        raise SystemExit(3)

    async with bounded(), nc.subscribe("replies") as replies:
        with pytest.raises(SystemExit) as caught:
            async with natsery.serve(nc, config(exits)) as service:
                await nc.publish("exits", reply="replies")
                await service.wait_stopped()
        assert caught.value.__notes__ == ["raised by the handler of endpoint 'exits'"]
        assert (await replies.receive()).data == b"done"
        await nc.flush()
        assert not replies._has_pending()
    stats = service.stats().endpoints[0]
    assert (stats.num_requests, stats.num_errors) == (1, 0)


async def test_a_bug_that_ends_the_workers_leaves_nobody_without_an_answer(
    broker: MemoryBroker, nc: Connection
) -> None:
    begun = anyio.Event()

    async def stuck(request: natsery.Request) -> None:
        begun.set()
        await anyio.sleep_forever()

    async def bug() -> None:
        raise LookupError("of natsery's own")

    async with bounded(), broker.connect() as server, nc.subscribe("replies") as replies:
        with pytest.raises(LookupError):
            async with natsery.serve(server, config(stuck)) as service:
                await nc.publish("stuck", reply="replies")
                await begun.wait()
                assert service._workers is not None
                service._workers.start_soon(bug)
                await anyio.sleep_forever()
        assert error_of(await replies.receive()) == "503:Service Stopping"
        assert list(server._active()) == []


def test_a_service_whose_tasks_are_cancelled_behind_its_back_ends_with_an_error() -> None:
    """As asyncio lets anybody do, and does itself when a program ends."""

    async def main() -> None:
        async with bounded(), MemoryBroker() as broker, broker.connect() as nc:
            with pytest.raises(RuntimeError, match=r"^the service's tasks have ended before it was stopped$"):
                async with natsery.serve(nc, config(add)):
                    (host,) = [each for each in asyncio.all_tasks() if each.get_name() == "natsery service calc"]
                    host.cancel()
                    await anyio.sleep_forever()
            assert list(nc._active()) == []  # type: ignore[attr-defined]

    asyncio.run(main())


async def test_an_error_that_ends_a_service_is_not_lost_in_a_cancellation_from_outside(nc: Connection) -> None:
    error = LookupError("why it ends")
    with anyio.CancelScope() as scope, pytest.raises(LookupError) as caught:
        async with natsery.serve(nc, config(add)) as service:
            service.stop(error)
            scope.cancel()
            await anyio.sleep_forever()
    assert caught.value is error


async def raises_late(request: natsery.Request, later: Callable[[], None]) -> None:
    later()
    raise LookupError


async def responds_late(request: natsery.Request, later: Callable[[], None]) -> None:
    later()
    await request.respond_error(404, "gone")


async def ends_stray(request: natsery.Request, later: Callable[[], None]) -> None:
    later()
    raise asyncio.CancelledError  # another task's


async def answers_late(request: natsery.Request, later: Callable[[], None]) -> None:
    async with request.detach() as detached:
        later()
        await detached.respond_error(404, "gone")


async def is_cancelled_late(request: natsery.Request, later: Callable[[], None]) -> None:
    with anyio.CancelScope() as scope:
        async with request.detach():
            later()
            scope.cancel()
            await anyio.sleep_forever()


async def is_cut_off(request: natsery.Request, later: Callable[[], None]) -> None:
    later()
    request.service.stop(grace=0)
    await anyio.sleep_forever()


async def is_cut_off_late(request: natsery.Request, later: Callable[[], None]) -> None:
    request.detach()
    later()
    request.service.stop(grace=0)


async def is_cancelled_with_its_worker(request: natsery.Request, later: Callable[[], None]) -> None:
    later()
    workers = request.service._workers
    assert workers is not None
    workers.cancel_scope.cancel()  # as when a task of the service fails
    await anyio.sleep_forever()


@pytest.mark.parametrize(
    "end",
    [
        is_cancelled_with_its_worker,
        raises_late,
        responds_late,
        ends_stray,
        answers_late,
        is_cancelled_late,
        is_cut_off,
        is_cut_off_late,
    ],
)
async def test_the_time_of_a_request_counts_however_it_ends(
    nc: Connection, end: Callable[[natsery.Request, Callable[[], None]], Awaitable[None]]
) -> None:
    now = 1_000

    def later() -> None:
        nonlocal now
        now += 5

    async def fails(request: natsery.Request) -> None:
        await end(request, later)

    async with bounded(), nc.subscribe("replies") as replies:
        clock = natsery.Clock(monotonic_ns=lambda: now)
        async with natsery.serve(nc, config(fails, clock=clock)) as service:
            await nc.publish("fails", reply="replies")
            assert error_of(await replies.receive()) is not None
    stats = service.stats().endpoints[0]
    assert (stats.num_requests, stats.num_errors, stats.processing_time) == (1, 1, 5)


async def test_requests_that_no_handler_took_have_no_time(nc: Connection) -> None:
    @natsery.endpoint(pending_messages=1)
    async def stuck(request: natsery.Request) -> None:
        await anyio.sleep_forever()

    clock = natsery.Clock(monotonic_ns=lambda: 1_000)
    async with bounded(), natsery.serve(nc, config(stuck, clock=clock), grace=0) as service:
        for _ in range(3):
            await nc.publish("stuck", reply="replies")
            await nc.flush()
            await anyio.wait_all_tasks_blocked()
    stats = service.stats().endpoints[0]
    assert (stats.failures, stats.processing_time) == ({"overloaded": 1, "stopping": 2}, 0)
