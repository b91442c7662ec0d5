"""How the generator behind a streamed reply is run: its scopes and task groups, its end, and what requesters may do to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest

import natsery
from natsery.abc import Connection
from natsery.testing import MemoryBroker

from ..bounds import bounded
from ..calc_service import config, error_of
from ..virtual_time import IN_VIRTUAL_TIME
from .stream_requester import ask, numbers

pytestmark = pytest.mark.anyio


async def test_each_yield_is_a_reply_and_an_empty_one_is_the_end(nc: Connection) -> None:
    async with bounded(), natsery.serve(nc, config(numbers)) as service:
        async with ask(nc, "numbers", b"3") as requester:
            messages = [await requester.next() for _ in range(4)]
        assert [each.data for each in messages] == [b"0", b"1", b"2", b""]
        assert not any(each.headers or each.status for each in messages)
        prefixes, last = zip(*(each.reply.rsplit(".", 1) for each in messages), strict=True)
        assert (len(set(prefixes)), last) == (1, ("1", "2", "3", "4"))
        async with ask(nc, "numbers", b"0") as requester:
            assert await requester.rest() == [b""]
        stats = service.stats().endpoints[0]
        assert (stats.num_requests, stats.num_errors, service.pending) == (2, 0, 0)


async def test_a_typed_stream_takes_a_body_and_yields_values_or_bytes(nc: Connection) -> None:
    async def lines(body: int) -> AsyncIterator[int | bytes]:
        yield body
        yield b"as it is"

    async with bounded(), natsery.serve(nc, config(lines)), ask(nc, "lines", b"7") as requester:
        assert await requester.rest() == [b"7", b"as it is", b""]


@pytest.mark.parametrize(
    ("part", "error"),
    [
        (b"", "must not yield an empty reply"),
        ("text", "-> AsyncIterator[str]"),
        (None, "not NoneType"),
    ],
)
async def test_what_cannot_be_a_part_is_raised_at_its_yield(
    nc: Connection, part: Any, error: str, caplog: pytest.LogCaptureFixture
) -> None:
    caught: list[Exception] = []

    async def careless(request: natsery.Request) -> AsyncIterator[bytes]:
        yield b"first"
        try:
            yield part
        except Exception as problem:
            caught.append(problem)
            raise

    async with bounded(), natsery.serve(nc, config(careless)) as service, ask(nc, "careless") as requester:
        assert await requester.rest() == [b"first", "500:Internal Server Error"]
        assert await requester.is_quiet()
        assert service.stats().endpoints[0].failures == {"exception": 1}
    assert error in str(caught[0])
    assert error in caplog.text


async def test_a_part_that_is_too_large_is_raised_at_its_yield(nc: Connection) -> None:
    async def large(request: natsery.Request) -> AsyncIterator[bytes]:
        try:
            yield bytes(nc.max_payload + 1)
        except natsery.MaxPayloadError as error:
            yield b"%d" % error.limit
        yield b"more"

    async with bounded(), natsery.serve(nc, config(large)) as service, ask(nc, "large") as requester:
        replies = [await requester.next() for _ in range(3)]
        assert [each.data for each in replies] == [b"%d" % nc.max_payload, b"more", b""]
        assert [each.reply[-2:] for each in replies] == [".1", ".2", ".3"]
        assert service.stats().endpoints[0].num_errors == 0


@IN_VIRTUAL_TIME
async def test_a_part_that_is_on_its_way_when_its_scope_ends_keeps_its_number(
    nc: Connection, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def limited(request: natsery.Request) -> AsyncIterator[bytes]:
        with anyio.move_on_after(1):
            yield b"slow"
        yield b"quick"

    async with bounded(), broker.connect() as server, natsery.serve(server, config(limited)):
        send = server._send  # type: ignore[attr-defined]

        async def send_and_wait(subject: str, data: bytes = b"", **options: Any) -> None:
            await send(subject, data, **options)
            if data == b"slow":
                await anyio.sleep(10)

        monkeypatch.setattr(server, "_send", send_and_wait)
        async with ask(nc, "limited") as requester:
            replies = [await requester.next() for _ in range(3)]
    assert [each.data for each in replies] == [b"slow", b"quick", b""]
    assert [each.reply[-2:] for each in replies] == [".1", ".2", ".3"]


@pytest.mark.parametrize(
    ("error", "answer"),
    [(natsery.ServiceError(404, "no more"), "404:no more"), (LookupError("a secret"), "500:Internal Server Error")],
)
async def test_an_error_comes_after_the_parts_and_is_the_last_message(
    nc: Connection, error: Exception, answer: str
) -> None:
    async def fails(request: natsery.Request) -> AsyncIterator[bytes]:
        yield b"part"
        raise error

    async with bounded(), natsery.serve(nc, config(fails)) as service, ask(nc, "fails") as requester:
        assert await requester.rest() == [b"part", answer]
        assert await requester.is_quiet()
        assert service.stats().endpoints[0].last_error == answer


async def test_an_error_reply_of_the_generator_takes_the_place_of_the_end(nc: Connection) -> None:
    async def refuses(request: natsery.Request) -> AsyncIterator[bytes]:
        yield b"part"
        await request.respond_error(404, "no more")

    async with bounded(), natsery.serve(nc, config(refuses)), ask(nc, "refuses") as requester:
        assert await requester.rest() == [b"part", "404:no more"]
        assert await requester.is_quiet()


async def test_a_body_that_does_not_fit_is_refused_before_anything_else(nc: Connection) -> None:
    async def typed(body: int) -> AsyncIterator[int]:
        yield body

    async with bounded(), natsery.serve(nc, config(typed)), ask(nc, "typed", b"x", window=1) as requester:
        (error,) = await requester.rest()
        assert str(error).startswith("400:Invalid Body")


@IN_VIRTUAL_TIME
async def test_a_time_out_is_for_the_whole_stream_and_closes_the_generator_first(nc: Connection) -> None:
    log: list[str] = []

    @natsery.endpoint(timeout=1)
    async def slow(request: natsery.Request) -> AsyncIterator[bytes]:
        try:
            yield b"part"
            await anyio.sleep_forever()
        finally:
            log.append("closed")

    @natsery.endpoint(timeout=1)
    async def untaken(request: natsery.Request) -> AsyncIterator[bytes]:
        try:
            yield b"part"
            yield b"never"
        finally:
            await anyio.sleep(0.1)
            log.append("cleaned up")

    async with bounded(), natsery.serve(nc, config(slow, untaken)) as service:
        async with ask(nc, "slow") as requester:
            assert await requester.rest() == [b"part", "504:Deadline Exceeded"]
        async with ask(nc, "untaken", window=1) as requester:
            await requester.next()
            assert await requester.rest() == [b"part", "504:Deadline Exceeded"]
        assert [each.failures for each in service.stats().endpoints] == [{"timeout": 1}] * 2
    assert log == ["closed", "cleaned up"]


@IN_VIRTUAL_TIME
async def test_the_end_of_the_grace_cuts_a_stream_off_and_its_clean_up_may_wait(nc: Connection) -> None:
    log: list[str] = []

    async def endless(request: natsery.Request) -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"part"
        finally:
            await anyio.sleep(0.1)
            log.append("cleaned up")

    async with bounded(), AsyncExitStack() as stack:
        async with natsery.serve(nc, config(endless), grace=0.5) as service:
            requester = await stack.enter_async_context(ask(nc, "endless", window=3))
            await requester.take(4)
            assert await requester.is_quiet()
            assert service.pending == 1
        assert log == ["cleaned up"]
        assert await requester.rest() == ["503:Service Stopping"]
        stats = service.stats().endpoints[0]
        assert (stats.num_requests, stats.failures, service.pending) == (1, {"stopping": 1}, 0)


# A requester that leaves


@pytest.mark.parametrize("window", [None, 1])
async def test_a_generator_at_its_yield_is_closed_when_the_requester_has_left(
    nc: Connection, window: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    log: list[str] = []

    async def endless(request: natsery.Request) -> AsyncIterator[bytes]:
        log.append("begun")
        try:
            while True:
                yield b"part"
        finally:
            await anyio.sleep(0.1)
            log.append("ended")

    async with bounded(), natsery.serve(nc, config(endless)) as service:
        for _ in range(2):
            async with ask(nc, "endless", window=window) as requester:
                first, _ = [await requester.next() for _ in range(2)]
                if window:
                    await nc.publish(first.reply, headers={"Reply-Window": "0"})
        async with ask(nc, "endless") as requester:
            await requester.take(1)
            stats = service.stats().endpoints[0]
            assert (stats.num_requests, stats.last_error) == (2, "")
            assert stats.failures == {}
            assert log == ["begun", "ended", "begun", "ended", "begun"]
    assert caplog.text == ""


@IN_VIRTUAL_TIME
async def test_a_generator_that_waits_is_cancelled_when_the_requester_has_left(nc: Connection) -> None:
    cancelled: list[bool] = []

    async def waits(request: natsery.Request) -> AsyncIterator[bytes]:
        try:
            yield b"part"
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            cancelled.append(True)
            raise

    async with bounded(), natsery.serve(nc, config(waits)) as service:
        async with ask(nc, "waits", window=5) as requester:
            status = await requester.next()
            await nc.publish(status.reply, headers={"Reply-Window": "0"})
            await nc.flush()
            await anyio.wait_all_tasks_blocked()
            assert cancelled == [True]
            assert service.stats().endpoints[0].failures == {}
            assert await requester.take(1) == [b"part"]
            assert await requester.is_quiet()
        # One that only unsubscribes is noticed by the heartbeat.
        async with ask(nc, "waits", window=5) as requester:
            await requester.take(2)
        await anyio.sleep(6)
        assert service.stats().endpoints[0].failures == {}


async def test_a_first_part_that_nobody_takes_ends_the_stream(nc: Connection) -> None:
    async with bounded(), natsery.serve(nc, config(numbers)) as service:
        await nc.publish("numbers", b"1000000", reply="nobody")
        await nc.flush()
        await anyio.wait_all_tasks_blocked()
        assert service.stats().endpoints[0].failures == {}


async def test_a_generator_that_goes_on_after_its_end_is_reported(
    nc: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    async def stubborn(request: natsery.Request) -> AsyncIterator[bytes]:
        try:
            yield b"part"
        except GeneratorExit:
            yield b"another"

    async with bounded(), natsery.serve(nc, config(stubborn)) as service:
        async with ask(nc, "stubborn", window=1) as requester:
            await nc.publish((await requester.next()).reply, headers={"Reply-Window": "0"})
            await nc.flush()
        assert service.pending == 0
    del requester


# Cancel scopes and task groups in a generator


@IN_VIRTUAL_TIME
async def test_a_scope_around_a_yield_is_the_generator_s(nc: Connection) -> None:
    async def limited(request: natsery.Request) -> AsyncIterator[bytes]:
        with anyio.move_on_after(1) as scope:
            while True:
                yield b"part"
        assert scope.cancelled_caught
        yield b"late"

    async with bounded(), natsery.serve(nc, config(limited)) as service:
        async with ask(nc, "limited", window=2) as requester:
            status = await requester.next()
            assert await requester.take(2) == [b"part", b"part"]
            await anyio.sleep(2)  # it waits for an acknowledgement until its time is over
            await nc.publish(status.reply[:-1] + "2")
            assert await requester.rest() == [b"late", b""]
        assert service.stats().endpoints[0].num_errors == 0


@IN_VIRTUAL_TIME
async def test_a_scope_that_ended_at_a_yield_keeps_no_cut_off_out(nc: Connection) -> None:
    async def limited(request: natsery.Request) -> AsyncIterator[bytes]:
        with anyio.move_on_after(1):
            while True:
                yield b"part"
        await anyio.sleep_forever()

    async with bounded():
        async with natsery.serve(nc, config(limited), grace=1) as service, ask(nc, "limited", window=2) as requester:
            await requester.take(3)
            await anyio.sleep(2)
            service.stop()
            await anyio.sleep_forever()
    assert service.stats().endpoints[0].failures == {"stopping": 1}


@IN_VIRTUAL_TIME
async def test_a_task_group_around_a_yield_is_closed_in_the_worker_s_task(nc: Connection) -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("task")

    async def grouped(request: natsery.Request) -> AsyncIterator[bytes]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work)
            try:
                while True:
                    yield b"part"
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0.1)
                ended.append("generator")

    async with bounded(), natsery.serve(nc, config(grouped), grace=0.5) as service:
        for _ in range(2):
            async with ask(nc, "grouped", window=1) as requester:
                await nc.publish((await requester.next()).reply, headers={"Reply-Window": "0"})
                await nc.flush()
                await anyio.sleep(1)
                assert sorted(ended) == ["generator", "task"]
                ended.clear()
        async with ask(nc, "grouped", window=1) as requester:
            await requester.take(2)
            service.stop()
            await service.wait_stopped()
    assert sorted(ended) == ["generator", "task"]
    assert service.stats().endpoints[0].failures == {"stopping": 1}


@IN_VIRTUAL_TIME
async def test_the_failure_of_a_task_beside_a_yield_is_the_stream_s(nc: Connection) -> None:
    async def fail() -> None:
        await anyio.sleep(1)
        raise natsery.ServiceError(404, "gone")

    async def grouped(request: natsery.Request) -> AsyncIterator[bytes]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fail)
            while True:
                yield b"part"

    async with bounded(), natsery.serve(nc, config(grouped)), ask(nc, "grouped", window=1) as requester:
        await requester.next()
        assert await requester.rest() == [b"part", "404:gone"]


@pytest.mark.parametrize(("grace", "seconds"), [(30, 5), (1, 1)])
@IN_VIRTUAL_TIME
async def test_a_clean_up_that_never_ends_is_cancelled_and_reported(
    nc: Connection, grace: float, seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[tuple[str | None, bytes | None]] = []

    def hear(error: Exception, endpoint: natsery.Endpoint | None, request: natsery.Request | None) -> None:
        heard.append((endpoint and endpoint.name, request and request.data))

    async def stuck(request: natsery.Request) -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"part"
        finally:
            await anyio.sleep_forever()

    async with bounded(), natsery.serve(nc, config(stuck, error_handler=hear), grace=grace) as service:
        async with ask(nc, "stuck", b"1", window=1) as requester:
            await nc.publish((await requester.next()).reply, headers={"Reply-Window": "0"})
            await anyio.sleep(seconds - 0.1)
            assert service.pending == 1
            await anyio.sleep(0.2)
            assert service.pending == 0
            assert service.stats().endpoints[0].failures == {}
    assert "its clean-up was cancelled because it took too long" in caplog.text
    assert heard == [("stuck", b"1")]


@IN_VIRTUAL_TIME
async def test_what_ends_the_service_does_so_although_the_clean_up_takes_too_long(
    broker: MemoryBroker, nc: Connection
) -> None:
    """It was swallowed with the clean-up's cancellation, and the stream ended as if it were complete."""

    class Fatal(BaseException):
        pass

    class Broken(natsery.JSONCodec):
        def encoder(self, type_: Any) -> Any:
            def fail(value: object) -> bytes:
                raise fatal

            return fail

    async def parts(request: natsery.Request) -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await anyio.sleep_forever()

    fatal = Fatal()
    async with bounded(), broker.connect() as asker:
        with pytest.raises(Fatal) as caught:
            async with natsery.serve(nc, config(natsery.EndpointConfig("parts", parts, codec=Broken()))):
                async with ask(asker, "parts") as requester:
                    assert await requester.rest() == ["500:Internal Server Error"]
                    await anyio.sleep_forever()
    assert caught.value is fatal


@IN_VIRTUAL_TIME
async def test_a_clean_up_that_never_ends_after_a_time_out_does_not_hide_it(nc: Connection) -> None:
    @natsery.endpoint(timeout=1)
    async def stuck(request: natsery.Request) -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"part"
        finally:
            await anyio.sleep_forever()

    async with bounded(), natsery.serve(nc, config(stuck)) as service, ask(nc, "stuck", window=1) as requester:
        begun = anyio.current_time()
        await requester.next()
        assert await requester.rest() == [b"part", b"", "504:Deadline Exceeded"]
        assert anyio.current_time() - begun == pytest.approx(1 + 5)
        assert service.stats().endpoints[0].failures == {"timeout": 1}


async def test_a_clean_up_that_fails_is_reported(nc: Connection, caplog: pytest.LogCaptureFixture) -> None:
    async def failing(request: natsery.Request) -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"part"
        finally:
            raise LookupError("in the clean-up")

    heard: list[tuple[str | None, bytes | None]] = []

    def hear(error: Exception, endpoint: natsery.Endpoint | None, request: natsery.Request | None) -> None:
        heard.append((endpoint and endpoint.name, request and request.data))

    async with bounded(), natsery.serve(nc, config(failing, error_handler=hear)) as service:
        async with ask(nc, "failing", b"1", window=1) as requester:
            await nc.publish((await requester.next()).reply, headers={"Reply-Window": "0"})
            await nc.flush()
            await anyio.wait_all_tasks_blocked()
            assert service.stats().endpoints[0].failures == {}
    assert "LookupError: in the clean-up" in caplog.text  # with its traceback
    assert heard == [("failing", b"1")]


async def test_a_request_with_a_stream_cannot_be_detached(nc: Connection) -> None:
    async def detaches(request: natsery.Request) -> AsyncIterator[bytes]:
        with pytest.raises(RuntimeError, match="cannot be detached; yield"):
            request.detach()
        yield b"part"

    async with bounded(), natsery.serve(nc, config(detaches)), ask(nc, "detaches") as requester:
        assert await requester.rest() == [b"part", b""]


async def test_a_middleware_goes_around_the_whole_stream(nc: Connection) -> None:
    log: list[object] = []

    async def middleware(request: natsery.Request, handler: natsery.Handler) -> bytes | None:
        log.append("before")
        result = await handler(request)
        log.append(result)
        return result

    async def logged(request: natsery.Request) -> AsyncIterator[bytes]:
        log.append("part")
        yield b"part"

    endpoint = natsery.EndpointConfig("logged", logged, middlewares=[middleware])
    async with bounded(), natsery.serve(nc, config(endpoint)), ask(nc, "logged") as requester:
        assert await requester.rest() == [b"part", b""]
        await anyio.wait_all_tasks_blocked()
    assert log == ["before", "part", None]


async def test_a_request_without_a_reply_subject_is_an_error(nc: Connection) -> None:
    async with bounded(), natsery.serve(nc, config(numbers)) as service:
        await nc.publish("numbers", b"3")
        await nc.publish("numbers", b"3", headers={"Reply-Window": "2"})
        await nc.flush()
        await anyio.wait_all_tasks_blocked()
        assert service.stats().endpoints[0].failures == {"undeliverable": 2}


# A generator that fails while it is closed


async def leaving(request: natsery.Request) -> AsyncIterator[bytes]:
    """Fails in a task group of its own when it is closed at its ``yield``."""

    async def fails_at_the_end() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            raise LookupError("at the end")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fails_at_the_end)
        await anyio.wait_all_tasks_blocked()
        while True:
            yield b"part"


async def test_what_fails_in_a_closed_generator_is_reported_without_the_closing(nc: Connection) -> None:
    told: list[Exception] = []
    served = config(leaving, error_handler=lambda error, *_: told.append(error))
    async with bounded(), natsery.serve(nc, served) as service:
        async with natsery.ServiceClient(nc).stream("leaving", window=1) as replies:
            assert (await replies.receive()).data == b"part"
        while service.pending:
            await anyio.lowlevel.checkpoint()
    (error,) = told
    assert pytest.RaisesGroup(pytest.RaisesExc(LookupError, match="at the end")).matches(error)
    assert service.stats().endpoints[0].failures == {}


async def test_what_ends_the_program_in_a_closed_generator_leaves_the_service(nc: Connection) -> None:
    """It was no clean-up that took too long, and is not reported as one."""
    told: list[Exception] = []

    async def exits(request: natsery.Request) -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"part"
        finally:
            raise SystemExit(3)

    with pytest.raises(SystemExit):
        async with bounded(), natsery.serve(nc, config(exits, error_handler=lambda error, *_: told.append(error))):
            async with natsery.ServiceClient(nc).stream("exits", window=1) as replies:
                assert (await replies.receive()).data == b"part"
            await anyio.sleep_forever()
    assert told == []


async def test_a_generator_that_ends_after_its_cut_off_sends_nothing_more(nc: Connection) -> None:
    told: list[Exception] = []

    async def shielded(request: natsery.Request) -> AsyncIterator[bytes]:
        yield b"part"
        with anyio.CancelScope(shield=True):
            await request.service._stopping.wait()
            for _ in range(3):
                await anyio.wait_all_tasks_blocked()

    async with bounded(), nc.subscribe("replies") as replies:
        served = config(shielded, error_handler=lambda error, *_: told.append(error))
        async with natsery.serve(nc, served, grace=0) as service:
            await nc.publish("shielded", reply="replies")
            assert (await replies.receive()).data == b"part"
        assert error_of(await replies.receive()) == "503:Service Stopping"
        await nc.flush()
        assert not replies._has_pending()
    assert told == []
    assert service.stats().endpoints[0].failures == {"stopping": 1}
