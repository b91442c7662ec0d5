"""What handlers share, set up before the first request and taken down after the last."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType

import anyio
import pytest

import natsery
from natsery.abc import Connection
from natsery.testing import make_request

from ..bounds import bounded
from ..calc_service import config

pytestmark = pytest.mark.anyio


class Shop:
    def __init__(self, nc: Connection) -> None:
        self.nc = nc
        self.is_open = True


@asynccontextmanager
async def lifespan(nc: Connection) -> AsyncIterator[Shop]:
    shop = Shop(nc)
    try:
        yield shop
    finally:
        shop.is_open = False


@natsery.endpoint
async def look(request: natsery.Request[Shop]) -> bytes:
    assert request.state.nc is request.connection
    return f"{request.service.name} {request.state.is_open}".encode()


async def test_handlers_reach_what_the_lifespan_yields(nc: Connection) -> None:
    async with bounded(), natsery.serve(nc, config(look, lifespan=lifespan)):
        assert (await nc.request("look")).data == b"calc True"


async def test_middlewares_reach_it_too(nc: Connection) -> None:
    async def middleware(request: natsery.Request[Shop], call_next) -> bytes | None:
        assert request.state.is_open
        return await call_next(request)

    async with bounded(), natsery.serve(nc, config(look, lifespan=lifespan, middlewares=[middleware])):
        assert (await nc.request("look")).data == b"calc True"


async def test_without_a_lifespan_there_is_no_state(nc: Connection) -> None:
    async def look(request: natsery.Request) -> bytes:
        return repr(request.state).encode()

    async with bounded(), natsery.serve(nc, config(look)):
        assert (await nc.request("look")).data == b"None"


async def test_it_is_entered_before_the_first_subscription(nc: Connection) -> None:
    @asynccontextmanager
    async def ask(nc: Connection) -> AsyncIterator[None]:
        with pytest.raises(natsery.NoRespondersError):
            await nc.request("look")
        with pytest.raises(natsery.NoRespondersError):
            await nc.request("$SRV.PING")
        yield

    async def look(request: natsery.Request) -> bytes:
        return b""

    async with bounded(), natsery.serve(nc, config(look, lifespan=ask)):
        await nc.request("look")


async def test_it_is_left_after_the_last_request(nc: Connection) -> None:
    begun, go_on = anyio.Event(), anyio.Event()

    @natsery.endpoint
    async def slow(request: natsery.Request[Shop]) -> bytes:
        begun.set()
        await go_on.wait()
        return f"{request.state.is_open}".encode()

    async with bounded(), anyio.create_task_group() as tasks:
        replies: list[bytes] = []

        async def ask() -> None:
            replies.append((await nc.request("slow")).data)

        async with natsery.serve(nc, config(slow, lifespan=lifespan)) as service:
            tasks.start_soon(ask)
            await begun.wait()
            service._stopping  # noqa: B018
            tasks.start_soon(lambda: _set_when_stopping(service, go_on))
    assert replies == [b"True"]


async def _set_when_stopping(service: natsery.Service, event: anyio.Event) -> None:
    await service._stopping.wait()
    event.set()


async def test_its_error_at_entry_is_the_error_of_serve(nc: Connection) -> None:
    error = RuntimeError("no database")

    @asynccontextmanager
    async def fail(nc: Connection) -> AsyncIterator[None]:
        raise error
        yield

    async with bounded():
        with pytest.raises(RuntimeError) as caught:
            async with natsery.serve(nc, config(look, lifespan=fail)):
                raise AssertionError
        assert caught.value is error
        with pytest.raises(natsery.NoRespondersError):
            await nc.request("look")


async def test_its_error_at_the_end_leaves_as_it_is(nc: Connection) -> None:
    error = RuntimeError("cannot close")

    @asynccontextmanager
    async def fail(nc: Connection) -> AsyncIterator[None]:
        yield
        raise error

    with pytest.raises(RuntimeError) as caught:
        async with bounded(), natsery.serve(nc, config(look, lifespan=fail)):
            pass
    assert caught.value is error
    assert caught.value.__context__ is None


async def test_it_sees_what_the_body_raises_and_lets_it_pass(nc: Connection) -> None:
    error, seen = ValueError("x"), []

    @asynccontextmanager
    async def watch(nc: Connection) -> AsyncIterator[None]:
        try:
            yield
        except ValueError as caught:
            seen.append(caught)
            raise

    with pytest.raises(ValueError, match="x") as caught:
        async with bounded(), natsery.serve(nc, config(look, lifespan=watch)):
            raise error
    assert caught.value is error
    assert seen == [error]


async def test_it_is_left_with_what_any_block_is_left_with(nc: Connection) -> None:
    left_with: list[object] = []

    class Watch:
        async def __aenter__(self) -> None: ...

        async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
            left_with.extend((kind, error, isinstance(traceback, TracebackType)))

    error = ValueError("x")
    with pytest.raises(ValueError, match="x"):
        async with bounded(), natsery.serve(nc, config(look, lifespan=lambda nc: Watch())):
            raise error
    async with bounded(), natsery.serve(nc, config(look, lifespan=lambda nc: Watch())):
        pass
    assert left_with == [ValueError, error, True, None, None, False]


@pytest.mark.parametrize("how", ["cancelled", "stopped"])
async def test_it_is_left_however_the_service_ends(nc: Connection, how: str) -> None:
    shops: list[Shop] = []

    @asynccontextmanager
    async def keep(nc: Connection) -> AsyncIterator[None]:
        async with lifespan(nc) as shop:
            shops.append(shop)
            yield

    async with bounded():
        with anyio.CancelScope() as scope:
            async with natsery.serve(nc, config(look, lifespan=keep)) as service:
                if how == "cancelled":
                    scope.cancel()
                else:
                    service.stop()
                await anyio.sleep_forever()
    assert [shop.is_open for shop in shops] == [False]


def bare(nc: Connection):
    return None


@contextmanager
def not_async(nc: Connection):
    yield


class Awaitable:
    async def __call__(self, nc: Connection) -> None: ...


@pytest.mark.parametrize(
    ("wrong", "kind"), [(bare, "NoneType"), (not_async, "_GeneratorContextManager"), (Awaitable(), "coroutine")]
)
async def test_what_is_no_async_context_manager_says_what_to_write(nc: Connection, wrong, kind: str) -> None:
    rule = f"must return an async context manager, not {kind}; write @asynccontextmanager above it; got "
    with pytest.raises(natsery.ConfigError, match=rf"^ServiceConfig\.lifespan: {rule}<.+>$"):
        async with bounded(), natsery.serve(nc, config(look, lifespan=wrong)):
            raise AssertionError


def test_what_the_function_returns_is_refused_at_once() -> None:
    """It can be called, as a decorator, so the error came later and said that @asynccontextmanager was missing."""

    @asynccontextmanager
    async def lifespan(nc: Connection | None) -> AsyncIterator[None]:
        yield

    with pytest.raises(natsery.ConfigError, match=r"must be the function, .* write lifespan=name, without \(\.\.\.\)"):
        config(look, lifespan=lifespan(None))


def test_a_generator_without_its_decorator_is_refused_at_once() -> None:
    async def forgotten(nc: Connection) -> AsyncIterator[None]:
        yield

    async def coroutine(nc: Connection) -> None: ...

    for each in (forgotten, coroutine):
        with pytest.raises(natsery.ConfigError, match="write @asynccontextmanager above it"):
            config(look, lifespan=each)
    with pytest.raises(natsery.ConfigError, match="must take"):
        config(look, lifespan=asynccontextmanager(lambda: None))


async def test_a_request_that_is_made_for_a_test_has_a_state() -> None:
    shop = Shop(None)  # type: ignore[arg-type]
    request, _ = make_request(state=shop)
    assert request.state is shop
    assert isinstance(request.connection, natsery.abc.Connection)
    with pytest.raises(RuntimeError, match="has no service"):
        request.service  # noqa: B018
