"""How an async function of a command ends: with its own exception, or with one line for the user."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

import natsery
from natsery._cli._exit_codes import CommandError, Exit
from natsery._cli._runner import run_async


async def fail(*errors: BaseException) -> None:
    """Raise errors in tasks of two task groups, one inside the other."""

    async def raise_(error: BaseException) -> None:
        raise error

    async with anyio.create_task_group() as outer:
        async with anyio.create_task_group() as inner:
            inner.start_soon(raise_, errors[0])
            for error in errors[1:]:
                outer.start_soon(raise_, error)


def test_it_returns_what_the_function_returns() -> None:
    async def double(number: int) -> int:
        await anyio.lowlevel.checkpoint()
        return 2 * number

    assert run_async(double, 4, backend="asyncio") == 8


def test_a_lone_exception_leaves_its_groups() -> None:
    error = KeyError("key")
    error.__context__ = context = RuntimeError("before")
    with pytest.raises(KeyError) as caught:
        run_async(fail, error)
    assert caught.value is error
    assert error.__context__ is context


def test_an_error_for_the_user_leaves_its_groups() -> None:
    with pytest.raises(CommandError) as caught:
        run_async(fail, natsery.NoRespondersError("subject"))
    assert caught.value.exit_code == Exit.NOT_FOUND


def test_several_exceptions_stay_together() -> None:
    errors = KeyError(), IndexError()
    with pytest.raises(BaseExceptionGroup) as caught:
        run_async(fail, *errors)
    assert all(caught.value.subgroup(lambda each, error=error: each is error) for error in errors)


def test_an_interrupt_comes_before_an_error() -> None:
    with pytest.raises(KeyboardInterrupt) as caught:
        run_async(fail, KeyError(), KeyboardInterrupt())
    assert caught.value.__context__ is None


def test_an_interrupt_while_a_class_is_made_is_one() -> None:
    """Ctrl-C while anyio loaded an event loop ended the command with a traceback of Python 3.11's, and status 1."""

    class Field:
        def __set_name__(self, owner: type, name: str) -> None:
            raise KeyboardInterrupt

    async def make() -> None:
        type("Made", (), {"field": Field()})

    with pytest.raises(KeyboardInterrupt):
        run_async(make)


def test_a_server_that_is_not_up_is_said_how_to_start() -> None:
    refused = ConnectionRefusedError(111, "Connection refused")
    with pytest.raises(
        CommandError, match=r"127.0.0.1:4222: Connection refused\); 'natsery server' starts a server there"
    ):
        run_async(fail, natsery.ConnectError([("nats://127.0.0.1:4222", refused)]))
    with pytest.raises(CommandError, match=r"refused\)$"):
        run_async(fail, natsery.ConnectError([("nats://elsewhere:4222", refused)]))
    with pytest.raises(CommandError, match=r"hung\)$"):
        run_async(fail, natsery.ConnectError([("nats://127.0.0.1:4222", TimeoutError("hung"))]))
