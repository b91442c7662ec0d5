"""Error handlers and stats handlers that do what no hook should: the service lives, or ends as it does for a handler."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import anyio
import pytest

import natsery
from natsery.abc import Connection

from ..bounds import bounded
from ..calc_service import add, config, error_of
from ..virtual_time import IN_VIRTUAL_TIME

pytestmark = pytest.mark.anyio


async def broken(request: natsery.Request) -> bytes:
    raise LookupError


def raises(error: BaseException, *, is_async: bool) -> Callable[..., Any]:
    def hook(*_: object) -> Awaitable[None] | None:
        if not is_async:
            raise error
        return later()

    async def later() -> None:
        await anyio.lowlevel.checkpoint()
        raise error

    return hook


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize(
    "error",
    [asyncio.CancelledError(), ValueError(), BaseExceptionGroup("", [asyncio.CancelledError(), ValueError()])],
    ids=["stray cancellation", "error", "both"],
)
@pytest.mark.parametrize("hook", ["error_handler", "stats_handler"])
async def test_a_hook_that_fails_ends_nothing(
    nc: Connection, hook: str, error: BaseException, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A stray cancellation ended the service without a word, with its subscriptions left at the server."""
    options = {hook: raises(error, is_async=is_async)}
    async with bounded(), natsery.serve(nc, config(broken, add, **options)) as service:
        for _ in range(2):
            assert error_of(await nc.request("broken")) == "500:Internal Server Error"
            assert len(await natsery.ServiceClient(nc).stats("calc", count=1)) == 1
            assert (await nc.request("add", b"1+2")).data == b"3"
        assert not service._stopping.is_set()
    assert "handler raised" in caplog.text


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("hook", ["error_handler", "stats_handler"])
async def test_a_hook_that_ends_the_program_has_the_service_drain(nc: Connection, hook: str, is_async: bool) -> None:
    error = SystemExit(3)
    options = {hook: raises(error, is_async=is_async)}
    started = anyio.Event()
    replies: list[bytes] = []

    async def slow(request: natsery.Request) -> bytes:
        started.set()
        await anyio.sleep(0.1)
        return b"finished"

    async def ask() -> None:
        replies.append((await nc.request("slow")).data)

    async with bounded(), anyio.create_task_group() as tasks:
        with pytest.raises(SystemExit) as caught:
            async with natsery.serve(nc, config(broken, slow, **options)) as service:
                tasks.start_soon(ask)
                await started.wait()
                if hook == "error_handler":
                    await nc.request("broken")
                else:
                    await nc.publish("$SRV.STATS.calc", reply="void")
                await service.wait_stopped()
        assert caught.value is error
    assert replies == [b"finished"]
    assert list(nc._active()) == [each for each in nc._active() if each.subject.startswith("_INBOX.")]  # type: ignore[attr-defined]


async def test_nothing_is_kept_of_an_endpoint_that_was_removed(nc: Connection) -> None:
    async with bounded(), natsery.serve(nc, config()) as service:
        endpoint = await service.add_endpoint(add)
        await nc._send("add", reply="$SRV.x")  # type: ignore[attr-defined]  # as another connection may
        await nc.flush()
        assert len(service._context.errors._intervals) == 1
        await endpoint.remove()
        assert service._context.errors._intervals == {}


class Report:
    """What an error handler may return besides a coroutine."""

    def __await__(self) -> Generator[None, None, None]:
        raise AssertionError("it was run")
        yield


@pytest.mark.parametrize("is_coroutine", [True, False])
async def test_after_the_end_an_async_error_handler_is_not_run(
    nc: Connection, is_coroutine: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """There is no task any more that could run it; the log has the error all the same."""
    requests: list[natsery.Request] = []

    async def keep(request: natsery.Request) -> bytes:
        requests.append(request)
        return b""

    async def tell() -> None:
        raise AssertionError("it was run")

    def handle(*_: object) -> Awaitable[None]:
        return tell() if is_coroutine else Report()

    async with bounded(), natsery.serve(nc, config(keep, error_handler=handle)):
        await nc.request("keep")
    with pytest.raises(natsery.ServiceStoppedError):
        await requests[0].respond_error(404, "late", headers={"Trace": "a\nb"})
    gc.collect()  # a coroutine that nobody closes or runs warns
    first, second = caplog.records
    assert "Trace" in first.getMessage()
    assert (
        second.getMessage() == "service calc, endpoint keep: the service has ended, its async error handler is not run"
    )
    assert (second.endpoint, second.subject) == ("keep", "keep")  # type: ignore[attr-defined]


@IN_VIRTUAL_TIME
async def test_an_error_handler_that_hangs_holds_the_end_up_for_a_second(
    nc: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []

    async def hang(error: Exception, *_: object) -> None:
        told.append(str(error))
        await anyio.sleep_forever()

    async def broken(request: natsery.Request) -> bytes:
        raise LookupError(request.data.decode())

    async with bounded(), natsery.serve(nc, config(broken, error_handler=hang)):
        for number in (b"1", b"2", b"3"):
            await nc.request("broken", number)
        begun = anyio.current_time()
    assert anyio.current_time() - begun == pytest.approx(1)
    assert told == ["1"]
    gc.collect()  # a coroutine that nobody closes or runs warns
    assert "the error handler raised" not in caplog.text
