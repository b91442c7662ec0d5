"""Handlers run under the loop of whichever form is active as they do under a plain one: Python's tools find and see them."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import io
import logging
import sys
import threading
import traceback
import types
import weakref
from collections.abc import AsyncIterator
from contextvars import ContextVar

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
import trio
from anyio.lowlevel import checkpoint

import natsery
from natsery._core import CORE
from natsery.abc import Connection
from natsery.testing import MemoryBroker

from ..bounds import bounded
from ..calc_service import config, error_of
from ..conftest import BACKENDS

pytestmark = pytest.mark.anyio

variable: ContextVar[str] = ContextVar("variable", default="unset")


@pytest.fixture(params=[*BACKENDS])
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return BACKENDS[request.param]


@pytest.fixture
async def broker() -> AsyncIterator[MemoryBroker]:
    async with MemoryBroker() as broker:
        yield broker


@pytest.fixture
async def nc(broker: MemoryBroker) -> AsyncIterator[Connection]:
    async with broker.connect() as nc:
        yield nc


def runs_trio() -> bool:
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return False
    return True


def line_of(function: object, mark: str) -> int:
    lines, start = inspect.getsourcelines(function)
    return start + next(index for index, line in enumerate(lines) if mark in line)


# Errors


async def test_the_log_shows_the_lines_of_a_handler(nc: Connection, caplog: pytest.LogCaptureFixture) -> None:
    def inner() -> None:
        raise LookupError("what was raised")  # innermost

    async def fails(request: natsery.Request) -> bytes:
        await checkpoint()
        inner()  # middle
        return b""

    async with bounded(), natsery.serve(nc, config(fails)):
        assert error_of(await nc.request("fails")) == "500:Internal Server Error"
    (record,) = [each for each in caplog.records if each.exc_info]
    frames = traceback.extract_tb(record.exc_info[2])
    assert [frame.lineno for frame in frames[-2:]] == [line_of(fails, "# middle"), line_of(inner, "# innermost")]
    assert [frame.name for frame in frames[-2:]] == ["fails", "inner"]
    text = logging.Formatter().formatException(record.exc_info)
    assert 'raise LookupError("what was raised")' in text
    assert text.endswith("LookupError: what was raised")
    assert record.exc_info[1].__traceback__ is record.exc_info[2]


async def test_causes_and_contexts_are_those_of_the_handler(nc: Connection) -> None:
    errors: list[Exception] = []

    async def fails(request: natsery.Request) -> bytes:
        assert sys.exc_info() == (None, None, None)
        if request.data == b"cause":
            raise ValueError("from a cause") from OSError("a cause")
        if request.data == b"context":
            try:
                raise OSError("a context")
            except OSError:
                await checkpoint()
                raise ValueError("in a context")  # noqa: B904
        if request.data == b"none":
            try:
                raise OSError("a context")
            except OSError:
                raise ValueError("from None") from None
        if request.data == b"again":
            try:
                raise OSError("again")
            except OSError:
                await checkpoint()
                raise
        if request.data == b"well":
            return b"well"
        raise ValueError("plain")

    options = {"error_handler": lambda error, *_: errors.append(error)}
    async with bounded(), natsery.serve(nc, config(fails, **options)):
        for data in (
            b"plain",
            b"cause",
            b"plain",
            b"context",
            b"plain",
            b"none",
            b"plain",
            b"again",
            b"plain",
            b"well",
        ):
            await nc.request("fails", data)
        await nc.request("fails", b"plain")
    chains = [(str(e), str(e.__cause__), str(e.__context__), e.__suppress_context__) for e in errors]
    plain = ("plain", "None", "None", False)
    assert chains == [
        plain,
        ("from a cause", "a cause", "None", True),
        plain,
        ("in a context", "None", "a context", False),
        plain,
        ("from None", "None", "a context", True),
        plain,
        ("again", "None", "None", False),
        plain,
        plain,
    ]


async def test_no_exception_is_being_handled_when_a_request_begins(nc: Connection) -> None:
    """Neither that of the request before, nor the one of who delivers it."""
    seen: list[object] = []

    async def looks(request: natsery.Request) -> bytes:
        seen.append(sys.exc_info()[1])
        await checkpoint()
        seen.append(sys.exc_info()[1])
        if request.data == b"raise":
            raise LookupError
        if request.data == b"respond":
            raise natsery.ServiceError(404, "not here")
        return b""

    async with bounded(), natsery.serve(nc, config(looks)):
        for data in (b"", b"raise", b"respond", b"raise", b""):
            try:
                raise OSError("of the requester")
            except OSError:
                await nc.request("looks", data)
    assert seen == [None] * 10


async def test_errors_are_let_go_of(nc: Connection) -> None:
    class Witness:
        pass

    seen: list[weakref.ref[Witness]] = []

    async def fails(request: natsery.Request) -> bytes:
        witness = Witness()
        seen.append(weakref.ref(witness))
        raise LookupError

    logging.disable()  # pytest keeps what is logged
    try:
        async with bounded(), natsery.serve(nc, config(fails)):
            for _ in range(3):
                await nc.request("fails")
            gc.collect()
            assert [each() for each in seen] == [None] * 3
    finally:
        logging.disable(logging.NOTSET)


async def test_a_traceback_may_be_taken_away_while_the_reply_waits() -> None:
    """A coroutine of Cython's that waited while it handled an exception looked at its traceback without a check: a crash."""
    gone = LookupError("gone")

    class Full:
        """A connection that has to wait before it can take an error reply."""

        def __init__(self, inner: natsery.abc.Connection) -> None:
            self._inner = inner
            self.is_waiting, self.may_go_on = anyio.Event(), anyio.Event()

        def __getattr__(self, name: str) -> object:
            return getattr(self._inner, name)

        async def _send(self, *arguments: object, **options: object) -> None:
            self.is_waiting.set()
            await self.may_go_on.wait()
            await self._inner._send(*arguments, **options)

    async def fails(request: natsery.Request) -> bytes:
        raise gone

    async with bounded(), MemoryBroker() as broker, broker.connect() as nc:
        async with natsery.serve(nc, config(fails)) as service:
            endings = service.endpoints[0]._queue.endings
            endings._fast_path = full = Full(endings._fast_path)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(nc.request, "fails")
                await full.is_waiting.wait()
                gone.__traceback__ = None
                full.may_go_on.set()
            gone.__traceback__ = None
            await nc.request("fails")


# Where a handler runs


async def test_the_task_is_the_workers(nc: Connection) -> None:
    tasks: list[object] = []

    async def looks(request: natsery.Request) -> bytes:
        for _ in range(2):
            tasks.append(trio.lowlevel.current_task() if runs_trio() else asyncio.current_task())
            assert anyio.get_current_task().name == "natsery endpoint looks"
            assert anyio.get_current_task() == anyio.get_current_task()
            await checkpoint()
        return b""

    async with bounded(), natsery.serve(nc, config(looks)):
        await nc.request("looks")
        await nc.request("looks")
        mine = trio.lowlevel.current_task() if runs_trio() else asyncio.current_task()
    assert len(set(map(id, tasks))) == 1
    assert tasks[0] is not mine


async def test_what_a_handler_sets_in_its_context_reaches_no_other_task(nc: Connection) -> None:
    async def sets(request: natsery.Request) -> bytes:
        variable.set(request.data.decode())
        await checkpoint()
        in_thread = await anyio.to_thread.run_sync(variable.get)
        return f"{variable.get()} {in_thread}".encode()

    async def reads(request: natsery.Request) -> bytes:
        return variable.get().encode()

    async with bounded(), natsery.serve(nc, config(sets, reads)):
        before = variable.get()
        there = (await nc.request("reads")).data
        assert (await nc.request("sets", b"mine")).data == b"mine mine"
        assert (await nc.request("reads")).data == there
        assert variable.get() == before


async def test_what_a_middleware_sets_and_resets_is_seen_in_the_handler_alone(nc: Connection) -> None:
    async def scoped(request: natsery.Request, call: object) -> bytes:
        assert variable.get() != "1"
        token = variable.set(request.data.decode())
        try:
            return await call(request)
        finally:
            variable.reset(token)

    @natsery.endpoint(middlewares=[scoped])
    async def reads(request: natsery.Request) -> bytes:
        await checkpoint()
        if request.data == b"fail":
            raise LookupError
        return variable.get().encode()

    async with bounded(), natsery.serve(nc, config(reads)):
        for data in (b"1", b"fail", b"2"):
            assert (await nc.request("reads", data)).data in (data, b"")


async def test_cancel_scopes_work_in_handlers(nc: Connection) -> None:
    async def scopes(request: natsery.Request) -> bytes:
        with anyio.move_on_after(0) as scope:
            await anyio.sleep_forever()
        assert scope.cancelled_caught
        with anyio.CancelScope() as scope:
            scope.cancel()
            await checkpoint()
        assert scope.cancelled_caught
        with pytest.raises(TimeoutError), anyio.fail_after(0):
            await anyio.sleep_forever()
        deadline = anyio.current_time() + 50
        with anyio.CancelScope(deadline=deadline):
            assert anyio.current_effective_deadline() == deadline
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep_forever)
            tasks.cancel_scope.cancel()
        if request.data == b"fail":
            with anyio.fail_after(0):
                await anyio.sleep_forever()
        return b"all"

    async with bounded(), natsery.serve(nc, config(scopes)):
        for _ in range(3):
            assert (await nc.request("scopes")).data == b"all"
            assert error_of(await nc.request("scopes", b"fail")) == "500:Internal Server Error"


async def test_the_deadline_of_an_endpoint_cuts_its_handler_off(nc: Connection) -> None:
    seen: list[str] = []

    @natsery.endpoint(timeout=0.001)
    async def hangs(request: natsery.Request) -> bytes:
        assert anyio.current_effective_deadline() <= request.deadline
        try:
            await anyio.sleep_forever()
        finally:
            seen.append(type(sys.exc_info()[1]).__name__)
        return b""

    async with bounded(), natsery.serve(nc, config(hangs)):
        for _ in range(3):
            assert error_of(await nc.request("hangs")) == "504:Deadline Exceeded"
    assert set(seen) <= {"Cancelled", "CancelledError"}
    assert len(seen) == 3


async def test_threads_that_a_handler_starts_come_back(nc: Connection) -> None:
    async def answer() -> bytes:
        await checkpoint()
        return b"from the loop"

    async def threads(request: natsery.Request) -> bytes:
        def work() -> bytes:
            assert threading.current_thread() is not threading.main_thread()
            assert anyio.from_thread.run_sync(len, request.data) == 3
            return anyio.from_thread.run(answer)

        return await anyio.to_thread.run_sync(work)

    async with bounded(), natsery.serve(nc, config(threads)):
        assert (await nc.request("threads", b"abc")).data == b"from the loop"
        assert (await nc.request("threads", b"abc")).data == b"from the loop"


# What looks at a handler


async def test_a_tracer_sees_the_lines_of_a_handler(nc: Connection) -> None:
    seen: list[tuple[str, int]] = []

    def trace(frame: types.FrameType, event: str, argument: object) -> object:
        if frame.f_code.co_name != "traced":
            return None
        seen.append((event, frame.f_lineno))
        return trace

    async def traced(request: natsery.Request) -> bytes:
        before = 1  # first
        await checkpoint()
        return b"%d" % before  # last

    async with bounded(), natsery.serve(nc, config(traced)):
        await nc.request("traced")
        old = sys.gettrace()
        sys.settrace(trace)
        try:
            await nc.request("traced")
        finally:
            sys.settrace(old)
    assert ("line", line_of(traced, "# first")) in seen
    assert ("line", line_of(traced, "# last")) in seen
    assert ("return", line_of(traced, "# last")) in seen


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring is new in Python 3.12")
async def test_a_monitor_sees_the_lines_of_a_handler(nc: Connection) -> None:
    seen: list[int] = []

    async def monitored(request: natsery.Request) -> bytes:
        before = 1  # first
        await checkpoint()
        return b"%d" % before  # last

    def on_line(code: types.CodeType, line: int) -> None:
        if code is monitored.__code__:
            seen.append(line)

    monitoring = sys.monitoring  # type: ignore[attr-defined]
    monitoring.use_tool_id(4, "natsery")
    monitoring.register_callback(4, monitoring.events.LINE, on_line)
    monitoring.set_events(4, monitoring.events.LINE)
    try:
        async with bounded(), natsery.serve(nc, config(monitored)):
            await nc.request("monitored")
    finally:
        monitoring.set_events(4, 0)
        monitoring.free_tool_id(4)
    assert {line_of(monitored, "# first"), line_of(monitored, "# last")} <= set(seen)


async def test_a_breakpoint_is_in_the_handler(nc: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def hook() -> None:
        frame = sys._getframe(1)
        seen.append([each.name for each in traceback.extract_stack(frame)])

    monkeypatch.setattr(sys, "breakpointhook", hook)

    async def stops(request: natsery.Request) -> bytes:
        breakpoint()  # noqa: T100
        await checkpoint()
        breakpoint()  # noqa: T100
        assert inspect.stack()[0].function == "stops"
        return b""

    async with bounded(), natsery.serve(nc, config(stops)):
        assert error_of(await nc.request("stops")) is None
    assert [names[-1] for names in seen] == ["stops", "stops"]
    assert all("_work" in names for names in seen)


async def test_a_suspended_handler_can_be_looked_at(nc: Connection) -> None:
    async def waits(request: natsery.Request) -> bytes:
        found.append(trio.lowlevel.current_task() if runs_trio() else asyncio.current_task())
        await may_go_on.wait()
        return b""

    found: list[object] = []
    may_go_on = anyio.Event()
    async with bounded(), natsery.serve(nc, config(waits)), anyio.create_task_group() as tasks:
        tasks.start_soon(nc.request, "waits")
        await anyio.wait_all_tasks_blocked()
        (task,) = found
        if isinstance(task, asyncio.Task):
            assert task.get_stack()
            text = io.StringIO()
            task.print_stack(file=text)
            assert "natsery endpoint waits" in text.getvalue()
            assert "natsery endpoint waits" in repr(task)
            names = [each.cr_frame.f_code.co_name for each in awaited(task.get_coro()) if hasattr(each, "cr_frame")]
        else:
            names = [frame.f_code.co_name for frame, line in task.iter_await_frames() if line]
        may_go_on.set()
    assert "_work" in names
    # What a compiled coroutine waits for is not to be found from outside.
    assert "waits" in names or CORE == "compiled"


def awaited(coroutine: object) -> list[object]:
    """A coroutine and what it waits for, as debuggers list them."""
    found = []
    while coroutine is not None:
        found.append(coroutine)
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)
    return found


async def test_an_idle_worker_can_be_looked_at(nc: Connection) -> None:
    found: list[object] = []

    async def quick(request: natsery.Request) -> bytes:
        found.append(trio.lowlevel.current_task() if runs_trio() else asyncio.current_task())
        return b""

    async with bounded(), natsery.serve(nc, config(quick)):
        await nc.request("quick")
        await anyio.wait_all_tasks_blocked()
        (task,) = found
        if isinstance(task, asyncio.Task):
            task.print_stack(file=io.StringIO())
            assert len(awaited(task.get_coro())) >= 3
        else:
            assert "_work" in [frame.f_code.co_name for frame, _ in task.iter_await_frames()]


# What a handler may be, and return


class Awaitable:
    """Waits, and gives a result; no coroutine."""

    def __init__(self, result: object) -> None:
        self.result = result

    def __await__(self) -> object:
        yield from checkpoint().__await__()
        return self.result


@types.coroutine
def generator(result: object) -> object:
    yield from checkpoint().__await__()
    return result


class Iterable:
    """Has an iterator of its own, which is no generator."""

    def __await__(self) -> object:
        return self

    def __iter__(self) -> object:
        return self

    def __next__(self) -> object:
        raise StopIteration(b"from an iterator")


async def coroutine(result: object) -> object:
    return result


RETURNED = {
    "coroutine": lambda: coroutine(b"x"),
    "awaitable": lambda: Awaitable(b"x"),
    "generator": lambda: generator(b"x"),
    "iterator": Iterable,
}


@pytest.mark.parametrize("kind", RETURNED)
async def test_a_middleware_may_return_any_awaitable(nc: Connection, kind: str) -> None:
    def middleware(request: natsery.Request, call: object) -> object:
        return RETURNED[kind]()

    @natsery.endpoint(middlewares=[middleware])
    async def unused(request: natsery.Request) -> bytes:
        return b""

    async with bounded(), natsery.serve(nc, config(unused)):
        for _ in range(3):
            assert (await nc.request("unused")).data == (b"from an iterator" if kind == "iterator" else b"x")


@pytest.mark.parametrize("kind", RETURNED)
async def test_a_handler_may_be_a_plain_function_that_returns_any_awaitable(nc: Connection, kind: str) -> None:
    def decorate(function: object) -> object:
        @functools.wraps(function)
        def call(*arguments: object) -> object:
            return RETURNED[kind]()

        return call

    @natsery.endpoint
    @decorate
    async def decorated(request: natsery.Request) -> bytes:
        return b""

    async with bounded(), natsery.serve(nc, config(decorated)):
        for _ in range(3):
            assert (await nc.request("decorated")).data == (b"from an iterator" if kind == "iterator" else b"x")


async def test_what_cannot_be_awaited_is_an_error_of_the_handler(
    nc: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    def middleware(request: natsery.Request, call: object) -> object:
        return b"not awaitable"

    @natsery.endpoint(middlewares=[middleware])
    async def unused(request: natsery.Request) -> bytes:
        return b""

    async with bounded(), natsery.serve(nc, config(unused)):
        for _ in range(3):
            assert error_of(await nc.request("unused")) == "500:Internal Server Error"
    assert "TypeError" in caplog.text
    assert "await" in caplog.text


class Payload(bytes):
    pass


@pytest.mark.parametrize("kind", [Payload, bytearray, memoryview])
async def test_what_is_like_bytes_is_sent(nc: Connection, kind: type) -> None:
    async def other(request: natsery.Request) -> object:
        return kind(request.data)

    async with bounded(), natsery.serve(nc, config(natsery.EndpointConfig("other", other))):
        for data in (b"", b"x" * 100_000):
            reply = await nc.request("other", data)
            assert (type(reply.data), reply.data) == (bytes, data)


CHANGES = [None, "text", Payload(b"x"), 5, natsery.Headers(), {}]


@pytest.mark.parametrize("field", ["subject", "data", "reply", "headers", "status"])
@pytest.mark.parametrize("where", ["handler", "middleware"])
async def test_whatever_a_handler_makes_of_a_request_it_is_answered(nc: Connection, field: str, where: str) -> None:
    values = iter(CHANGES)

    async def middleware(request: natsery.Request, call: object) -> object:
        if where == "middleware":
            setattr(request, field, next(values))
        return await call(request)

    @natsery.endpoint(middlewares=[middleware])
    async def changes(request: natsery.Request) -> bytes:
        if where == "handler":
            setattr(request, field, next(values))
        return b"changed"

    async with bounded(), natsery.serve(nc, config(changes)) as service:
        for _ in CHANGES:
            assert (await nc.request("changes", b"x", headers={"A": "1"})).data == b"changed"
        stats = service.stats().endpoints[0]
        assert (stats.num_requests, stats.num_errors) == (len(CHANGES), 0)


@pytest.mark.parametrize("field", ["subject", "data", "headers", "status"])
async def test_whatever_a_handler_makes_of_a_request_its_failure_is_told(nc: Connection, field: str) -> None:
    values = iter(CHANGES)

    async def changes(request: natsery.Request) -> bytes:
        setattr(request, field, next(values))
        raise natsery.ServiceError(400, "changed")

    async with bounded(), natsery.serve(nc, config(changes)) as service:
        for _ in CHANGES:
            assert error_of(await nc.request("changes", b"x", headers={"A": "1"})) == "400:changed"
        stats = service.stats().endpoints[0]
        assert (stats.num_requests, stats.num_errors) == (len(CHANGES), len(CHANGES))


async def test_a_request_without_its_reply_subject_cannot_be_answered(nc: Connection) -> None:
    async def hides(request: natsery.Request) -> None:
        request.reply = None if request.data else ""
        with pytest.raises(natsery.NoReplySubjectError):
            await request.respond(b"x")

    async with bounded(), natsery.serve(nc, config(hides)) as service:
        for data in (b"", b"x"):
            await nc.publish("hides", data, reply="nobody")
        await anyio.wait_all_tasks_blocked()
        stats = service.stats().endpoints[0]
        assert (stats.num_requests, stats.num_errors) == (2, 2)
