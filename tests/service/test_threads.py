"""Handlers that block, in threads."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from contextvars import ContextVar

import anyio
import anyio.from_thread
import pytest

import natsery
from natsery import ServiceError
from natsery.abc import Connection

from ..bounds import HANG_SECONDS, bounded
from ..calc_service import add, config, error_of
from ..conftest import BACKENDS

pytestmark = pytest.mark.anyio

variable: ContextVar[str] = ContextVar("variable", default="")


@pytest.fixture(params=[name for name in ("trio", "asyncio", "uvloop") if name in BACKENDS])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    """With real time, for threads know no other."""
    return BACKENDS[request.param]


@natsery.endpoint(in_thread=True)
def where(request: natsery.Request) -> bytes:
    return threading.current_thread().name.encode()


@natsery.endpoint(in_thread=True)
def double(body: int) -> int:
    return body * 2


@natsery.endpoint(in_thread=True)
def fail(request: natsery.Request) -> bytes:
    raise ServiceError(404, "not here")


@natsery.endpoint(in_thread=True)
def respond(request: natsery.Request) -> None:
    anyio.from_thread.run(request.respond, b"from the thread")


async def test_it_runs_in_a_thread(nc: Connection) -> None:
    async with bounded(), natsery.serve(nc, config(where, double, fail, respond)):
        client = natsery.ServiceClient(nc)
        assert (await nc.request("where")).data != threading.current_thread().name.encode()
        assert await client.request("double", 21, returns=int) == 42
        with pytest.raises(ServiceError, match="404:not here"):
            await client.request("fail")
        assert (await nc.request("respond")).data == b"from the thread"


async def test_as_many_threads_as_the_concurrency_says(nc: Connection) -> None:
    count = 4
    barrier = threading.Barrier(count, timeout=HANG_SECONDS)

    @natsery.endpoint(in_thread=True, concurrency=count)
    def meet(request: natsery.Request) -> bytes:
        barrier.wait()
        return b""

    async with bounded(), natsery.serve(nc, config(meet)), anyio.create_task_group() as tasks:
        for _ in range(count):
            tasks.start_soon(nc.request, "meet")


async def test_its_threads_are_not_among_those_that_the_program_has(nc: Connection) -> None:
    """Which may all be waiting for this service."""
    limiter = anyio.to_thread.current_default_thread_limiter()

    @natsery.endpoint(in_thread=True)
    def borrowed(request: natsery.Request) -> bytes:
        return b"%d" % limiter.borrowed_tokens

    async with bounded(), natsery.serve(nc, config(borrowed)):
        assert (await nc.request("borrowed")).data == b"0"


async def test_no_more_threads_than_the_concurrency_says(nc: Connection) -> None:
    lock = threading.Lock()

    @natsery.endpoint(in_thread=True)
    def count(request: natsery.Request) -> bytes:
        assert lock.acquire(blocking=False)
        anyio.from_thread.run(anyio.lowlevel.checkpoint)
        lock.release()
        return b""

    async with bounded(), natsery.serve(nc, config(count)) as service, anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(nc.request, "count")
    assert service.stats().endpoints[0].failures == {}


async def test_others_go_on_meanwhile(nc: Connection) -> None:
    go_on = threading.Event()

    @natsery.endpoint(in_thread=True)
    def block(request: natsery.Request) -> bytes:
        assert go_on.wait(HANG_SECONDS)
        return b"blocked"

    async def quick(request: natsery.Request) -> bytes:
        return b"quick"

    async with bounded(), natsery.serve(nc, config(block, quick)), anyio.create_task_group() as tasks:
        tasks.start_soon(nc.request, "block")
        assert (await nc.request("quick")).data == b"quick"
        go_on.set()


async def test_a_thread_is_waited_for_and_can_see_that_its_time_is_over(nc: Connection) -> None:
    begun: list[str] = []
    seen: list[str] = []

    @natsery.endpoint(in_thread=True, timeout=0.01)
    def look(request: natsery.Request) -> bytes:
        begun.append("begun")
        try:
            while True:
                anyio.from_thread.check_cancelled()
        except BaseException:
            seen.append("cancelled")
            raise

    async with bounded(), natsery.serve(nc, config(look)):
        while not begun:  # its time may be over before there is a thread
            with pytest.raises(ServiceError, match="504"):
                await natsery.ServiceClient(nc).request("look")
        assert seen == ["cancelled"]


async def test_what_a_thread_returns_after_its_time_is_still_the_reply(nc: Connection) -> None:
    begun = threading.Event()

    @natsery.endpoint(in_thread=True, timeout=0.01)
    def late(request: natsery.Request) -> bytes:
        begun.set()
        while not is_over():
            time.sleep(0.001)
        return b"late"

    async with bounded(), natsery.serve(nc, config(late)):
        while not begun.is_set():  # its time may be over before there is a thread
            reply = await nc.request("late")
        assert reply.data == b"late"


async def test_at_the_end_of_the_grace_the_requester_is_told_and_the_thread_is_waited_for(nc: Connection) -> None:
    begun, told, ended = anyio.Event(), threading.Event(), threading.Event()
    replies: list[natsery.Message] = []

    @natsery.endpoint(in_thread=True)
    def block(request: natsery.Request) -> bytes:
        anyio.from_thread.run_sync(begun.set)
        assert told.wait(HANG_SECONDS)
        ended.set()
        return b"late"

    async def ask() -> None:
        replies.append(await nc.request("block"))
        assert not ended.is_set()
        told.set()

    async with bounded(), anyio.create_task_group() as tasks:
        async with natsery.serve(nc, config(block), grace=0):
            tasks.start_soon(ask)
            await begun.wait()
        assert ended.is_set()
    assert error_of(replies[0]) == "503:Service Stopping"


def is_over() -> bool:
    """Whether the time of the request that runs in this thread is over."""
    try:
        anyio.from_thread.check_cancelled()
    except BaseException:
        return True
    return False


async def test_a_service_is_not_stopped_from_a_thread_directly(nc: Connection, caplog) -> None:
    @natsery.endpoint(in_thread=True)
    def stop(request: natsery.Request) -> bytes:
        with pytest.raises(RuntimeError, match=r"write anyio\.from_thread\.run_sync\(service\.stop\)"):
            request.service.stop()
        anyio.from_thread.run_sync(request.service.stop)
        return b"stopped"

    async with bounded(), anyio.create_task_group() as tasks:
        replies = []

        async def call() -> None:
            replies.append((await nc.request("stop")).data)

        async with natsery.serve(nc, config(stop)):
            tasks.start_soon(call)
            await anyio.sleep_forever()
    assert replies == [b"stopped"]


async def test_a_stop_after_the_end_does_nothing_wherever_it_is_called(nc: Connection) -> None:
    async with bounded():
        async with natsery.serve(nc, config(add)) as service:
            pass
        await anyio.to_thread.run_sync(service.stop)
        await anyio.to_thread.run_sync(lambda: service.stop(LookupError("too late"), grace=1))
        with pytest.raises(ValueError, match="grace"):
            service.stop(grace=-1)


async def test_a_reply_from_a_thread_whose_time_is_over_ends_it(nc: Connection) -> None:
    begun = threading.Event()

    @natsery.endpoint(in_thread=True, timeout=0.01)
    def late(request: natsery.Request) -> None:
        begun.set()
        with suppress(BaseException):
            while True:
                anyio.from_thread.check_cancelled()
        anyio.from_thread.run(request.respond, b"late")

    async with bounded():
        async with natsery.serve(nc, config(late)) as service:
            while not begun.is_set():  # its time may be over before there is a thread
                service.reset()
                with pytest.raises(ServiceError, match="504"):
                    await natsery.ServiceClient(nc).request("late")
            assert service.endpoints[0].stats().failures == {natsery.FailureCause.TIMEOUT: 1}


async def test_a_stray_cancellation_in_a_thread_is_an_error_of_the_handler(nc: Connection) -> None:
    """As of an asyncio task that it has waited for, and that somebody has cancelled."""

    @natsery.endpoint(in_thread=True)
    def stray(request: natsery.Request) -> bytes:
        raise asyncio.CancelledError

    errors: list[Exception] = []
    async with bounded():
        async with natsery.serve(nc, config(stray, error_handler=lambda error, _, __: errors.append(error))):
            for _ in range(2):
                assert error_of(await nc.request("stray")) == "500:Internal Server Error"
    text = "the handler raised CancelledError although nothing cancelled it"
    assert [(type(error), str(error)) for error in errors] == [(RuntimeError, text)] * 2
    assert all(isinstance(error.__cause__, asyncio.CancelledError) for error in errors)


async def test_a_coroutine_from_a_thread_says_what_to_write(nc: Connection, caplog) -> None:
    @natsery.endpoint(in_thread=True)
    def forgotten(request: natsery.Request):
        return request.respond(b"x")

    errors: list[Exception] = []
    async with bounded():
        async with natsery.serve(nc, config(forgotten, error_handler=lambda error, _, __: errors.append(error))):
            with pytest.raises(ServiceError, match="500"):
                await natsery.ServiceClient(nc).request("forgotten")
    assert "write anyio.from_thread.run(request.respond, ...)" in str(errors[0])


def test_plain_functions_need_the_option_and_async_ones_must_not_have_it() -> None:
    def plain(request):
        return b""

    async def asynchronous(request):
        return b""

    with pytest.raises(natsery.ConfigError, match="write 'async def', or in_thread=True for a thread"):
        config(plain)
    with pytest.raises(natsery.ConfigError, match="in_thread=True is not for 'async def'"):
        natsery.endpoint(in_thread=True)(asynchronous)
    with pytest.raises(natsery.ConfigError, match="in_thread"):
        natsery.EndpointConfig("x", plain, in_thread=1)  # type: ignore[arg-type]
