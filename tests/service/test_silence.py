"""Returning is not answering: handlers that stay silent, that pass a request on, and that answer later."""

from __future__ import annotations

import asyncio
import gc
import warnings

import anyio
import pytest

import natsery
from natsery.abc import Connection
from natsery.testing import MemoryBroker, make_request

from ..bounds import bounded
from ..calc_service import add, config, error_of

pytestmark = pytest.mark.anyio


async def replies_to(nc: Connection, subject: str, data: bytes = b"") -> list[natsery.Message]:
    """Send a request and return what has come back when the service has handled it."""
    async with nc.subscribe("replies") as replies:
        await nc.publish(subject, data, reply="replies")
        await nc.publish(subject, b"fence", reply="replies")
        found: list[natsery.Message] = []
        while not found or found[-1].data != b"fence":
            found.append(await replies.receive())
        return found[:-1]


async def test_a_handler_that_returns_none_sends_nothing(nc: Connection) -> None:
    """It sent an empty reply, which looked like an answer where another member had one to give."""

    async def silent(request: natsery.Request) -> bytes | None:
        return request.data or None

    async with bounded(), natsery.serve(nc, config(silent)) as service:
        assert await replies_to(nc, "silent") == []
        stats = service.stats().endpoints[0]
        assert (stats.num_requests, stats.num_errors) == (2, 0)


async def test_the_member_that_knows_answers(broker: MemoryBroker, nc: Connection) -> None:
    def member(known: bytes) -> natsery.ServiceConfig:
        @natsery.endpoint(queue_group=natsery.NO_QUEUE_GROUP)
        async def whose(request: natsery.Request) -> bytes | None:
            return b"mine: " + known if request.data == known else None

        return config(whose)

    async with bounded(), natsery.serve(nc, member(b"a")), natsery.serve(nc, member(b"b")):
        assert (await nc.request("whose", b"a")).data == b"mine: a"
        assert (await nc.request("whose", b"b")).data == b"mine: b"


async def test_a_request_can_be_passed_on_with_its_reply_subject(nc: Connection) -> None:
    async def pass_on(request: natsery.Request) -> None:
        await nc.publish("add", request.data, reply=request.reply)

    async with bounded(), natsery.serve(nc, config(pass_on, add)):
        assert (await nc.request("pass_on", b"1+2")).data == b"3"


WITH_AND_WITHOUT_INSTRUMENTS = pytest.mark.parametrize(
    "instruments", [[], [natsery.Instrument()]], ids=["", "observed"]
)


@WITH_AND_WITHOUT_INSTRUMENTS
async def test_a_respond_that_was_not_awaited_is_reported(
    nc: Connection, instruments: list[natsery.Instrument], caplog: pytest.LogCaptureFixture
) -> None:
    async def forgets(request: natsery.Request) -> bytes | None:
        if request.data == b"fence":
            return request.data
        request.respond(b"1")  # type: ignore[unused-coroutine]  # the mistake
        return None

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # Python's own, when it finds the coroutine
        async with bounded(), natsery.serve(nc, config(forgets, instruments=instruments)):
            assert await replies_to(nc, "forgets") == []
        gc.collect()
    assert "service calc, endpoint forgets: respond was called without await" in caplog.text


async def test_a_coroutine_that_is_returned_is_named(nc: Connection, caplog: pytest.LogCaptureFixture) -> None:
    async def returns_it(request: natsery.Request) -> bytes:
        return request.respond(b"1")  # type: ignore[return-value]  # the mistake

    async with bounded(), natsery.serve(nc, config(returns_it)):
        assert error_of(await nc.request("returns_it")) == "500:Internal Server Error"
    assert "write 'await request.respond(...)'" in caplog.text


async def test_a_detached_request_is_answered_after_its_handler_has_returned(nc: Connection) -> None:
    detached: list[natsery.DetachedRequest] = []

    async def later(request: natsery.Request) -> None:
        detached.append(request.detach())

    async def answer() -> None:
        async with detached[0] as request:
            assert service.pending == 1
            assert service.stats().endpoints[0].num_requests == 0
            await request.respond(b"part")
            await request.respond(b"late")

    async with bounded(), nc.subscribe("replies") as replies, anyio.create_task_group() as tasks:
        async with natsery.serve(nc, config(later)) as service:
            await nc.publish("later", reply="replies")
            await nc.flush()
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(answer)
            assert [(await replies.receive()).data for _ in range(2)] == [b"part", b"late"]
        stats = service.stats().endpoints[0]
        assert (stats.num_requests, stats.num_errors, service.pending) == (1, 0, 0)
        with pytest.raises(RuntimeError, match=r"^a detached request is entered once$"):
            async with detached[0]:
                pass


async def test_a_failure_in_a_detached_request_is_answered_as_a_handler_s(
    nc: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    async def later(request: natsery.Request) -> None:
        async with request.detach() as detached:
            if detached.data == b"known":
                raise natsery.ServiceError(404, "no such item")
            raise LookupError("a secret")

    async with bounded(), natsery.serve(nc, config(later)) as service:
        assert error_of(await nc.request("later", b"known")) == "404:no such item"
        assert error_of(await nc.request("later")) == "500:Internal Server Error"
        assert "a secret" in caplog.text
        assert service.stats().endpoints[0].failures == {"service_error": 1, "exception": 1}


async def test_a_stop_waits_for_detached_requests_and_cuts_them_off(nc: Connection) -> None:
    async def later(request: natsery.Request) -> None:
        detached = request.detach()
        if request.data == b"soon":
            tasks.start_soon(answer, detached)

    async def answer(detached: natsery.DetachedRequest) -> None:
        async with detached as request:
            await stopping.wait()
            await request.respond(b"in time")

    replies: list[str | None] = []

    async def ask(data: bytes) -> None:
        reply = await nc.request("later", data)
        replies.append(error_of(reply) or reply.data.decode())

    stopping = anyio.Event()
    async with bounded(), anyio.create_task_group() as tasks:
        async with natsery.serve(nc, config(later), grace=0.2) as service:
            tasks.start_soon(ask, b"soon")
            tasks.start_soon(ask, b"never")
            await anyio.wait_all_tasks_blocked()
            assert service.pending == 2
            service.stop()
            stopping.set()
        assert sorted(map(str, replies)) == ["503:Service Stopping", "in time"]
        stats = service.stats().endpoints[0]
        assert (stats.num_requests, stats.failures) == (2, {"stopping": 1})


async def test_detached_requests_count_against_the_limit(nc: Connection) -> None:
    detached: list[natsery.DetachedRequest] = []

    async def later(request: natsery.Request) -> None:
        detached.append(request.detach())

    endpoint = natsery.EndpointConfig("later", later, pending_messages=2)
    async with bounded(), anyio.create_task_group() as tasks:
        async with natsery.serve(nc, config(endpoint)):
            for _ in range(2):
                tasks.start_soon(nc.request, "later")
                await anyio.wait_all_tasks_blocked()
            assert error_of(await nc.request("later")) == "503:Service Overloaded"
            for each in detached:
                async with each as request:
                    await request.respond(b"")
            tasks.start_soon(nc.request, "later")
            await anyio.wait_all_tasks_blocked()
            async with detached[2] as request:
                await request.respond(b"")


async def test_a_request_is_detached_once_and_while_it_is_handled(nc: Connection) -> None:
    kept: list[natsery.Request] = []
    refusals: list[str] = []

    async def later(request: natsery.Request) -> bytes:
        kept.append(request)
        async with request.detach():
            with pytest.raises(RuntimeError) as caught:
                request.detach()
            refusals.append(str(caught.value))
        with pytest.raises(natsery.ServiceStoppedError) as stopped:
            await request.respond(b"")
        refusals.append(str(stopped.value))
        return b"not sent"

    async with bounded(), natsery.serve(nc, config(later)) as service:
        await nc.publish("later", reply="void")
        await nc.flush()
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(natsery.ServiceStoppedError, match=r"^the request has ended: "):
            kept[0].detach()
        assert service.stats().endpoints[0].num_requests == 1
    assert refusals == [
        "the request is detached already",
        "the request has ended: its handler returned, ran out of time or was cut off",
    ]


@pytest.mark.parametrize("error", [asyncio.CancelledError(), LookupError()], ids=["stray cancellation", "error"])
async def test_a_handler_that_fails_after_detaching_ends_the_request_once(nc: Connection, error: BaseException) -> None:
    """It was answered and counted twice, and held a stop for the whole grace."""
    detached: list[natsery.DetachedRequest] = []

    async def later(request: natsery.Request) -> None:
        detached.append(request.detach())
        raise error

    async with bounded(), nc.subscribe("replies") as replies:
        async with natsery.serve(nc, config(later)) as service:
            await nc.publish("later", reply="replies")
            assert error_of(await replies.receive()) == "500:Internal Server Error"
            assert service.pending == 0
            with pytest.raises(natsery.ServiceStoppedError):
                async with detached[0]:
                    pass
        await nc.publish("replies", b"the next")
        assert (await replies.receive()).data == b"the next"
        assert service.stats().endpoints[0].num_requests == 1


async def test_a_cancelled_task_ends_its_detached_request(nc: Connection) -> None:
    async def later(request: natsery.Request) -> None:
        tasks.start_soon(answer, request.detach())

    async def answer(detached: natsery.DetachedRequest) -> None:
        async with detached:
            entered.set()
            await anyio.sleep_forever()

    entered = anyio.Event()
    async with bounded(), natsery.serve(nc, config(later)) as service, nc.subscribe("replies") as replies:
        async with anyio.create_task_group() as tasks:
            await nc.publish("later", reply="replies")
            await entered.wait()
            tasks.cancel_scope.cancel()
        assert error_of(await replies.receive()) == "500:Internal Server Error"
        assert (service.pending, service.stats().endpoints[0].failures) == (0, {"exception": 1})


async def test_detached_requests_count_against_the_limit_in_bytes(nc: Connection) -> None:
    detached: list[natsery.DetachedRequest] = []

    async def later(request: natsery.Request) -> None:
        detached.append(request.detach())

    endpoint = natsery.EndpointConfig("later", later, pending_bytes=1_000)
    async with bounded(), nc.subscribe("replies") as replies:
        async with natsery.serve(nc, config(endpoint), grace=0):
            for _ in range(3):
                await nc.publish("later", bytes(500), reply="replies")
                await nc.flush()
                await anyio.wait_all_tasks_blocked()
            assert error_of(await replies.receive()) == "503:Service Overloaded"
            assert len(detached) == 2


@WITH_AND_WITHOUT_INSTRUMENTS
async def test_a_respond_that_a_task_is_about_to_run_is_left_alone(
    nc: Connection, instruments: list[natsery.Instrument], caplog: pytest.LogCaptureFixture
) -> None:
    """It was closed, and the task failed with it."""

    async def later(request: natsery.Request) -> None:
        detached = request.detach()
        tasks.start_soon(request.respond, b"part")
        tasks.start_soon(finish, detached)

    async def finish(detached: natsery.DetachedRequest) -> None:
        async with detached as request:
            await request.respond(b"end")

    options = {"instruments": instruments}
    async with bounded(), natsery.serve(nc, config(later, **options)), nc.subscribe("replies") as replies:
        async with anyio.create_task_group() as tasks:
            await nc.publish("later", reply="replies")
            assert {(await replies.receive()).data for _ in range(2)} == {b"part", b"end"}
    assert "without await" not in caplog.text


async def test_a_handler_that_detaches_can_be_tested_alone() -> None:
    request, answers = make_request(b"1")
    async with request.detach() as detached:
        await detached.respond(detached.data)
    assert [answer.data for answer in answers] == [b"1"]
    assert request.endpoint.stats().num_requests == 1
