"""What to write instead, for what newcomers write: the names of other libraries, and ``await`` in place of ``async with``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from functools import wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NoReturn, ParamSpec, TypeVar, final

ArgsP = ParamSpec("ArgsP")
ResultT = TypeVar("ResultT")
ValueT = TypeVar("ValueT")

DEADLINE: Final = "deadlines are the caller's; write 'with anyio.fail_after(2):' around the call"


def explain_options(hints: Mapping[str, str]) -> Callable[[Callable[ArgsP, ResultT]], Callable[ArgsP, ResultT]]:
    """Decorate a plain function, so that options which it does not have are refused with what to write instead.

    For functions that return blocks. Coroutine functions call `refuse_options`, which costs nothing until it is needed.

    Args:
        hints: the names of such options, and the ends of the errors.
    """

    def decorate(function: Callable[ArgsP, ResultT]) -> Callable[ArgsP, ResultT]:
        @wraps(function)
        def call(*args: ArgsP.args, **options: ArgsP.kwargs) -> ResultT:
            if any(each in hints for each in options):
                refuse_options(function.__name__, options, hints)
            return function(*args, **options)

        return call

    return decorate


def refuse_options(function: str, options: Collection[str], hints: Mapping[str, str]) -> NoReturn:
    """Raise the error for options that a function does not have, with what to write instead if there is a hint.

    Raises:
        TypeError: always.
    """
    option = next((each for each in options if each in hints), None)
    if option is not None:
        raise TypeError(f"{function}() has no option {option!r}: {hints[option]}")
    raise TypeError(f"{function}() got an unexpected keyword argument {next(iter(options))!r}")


class UsedAsBlock:
    """Something that is of no use until ``async with`` has entered it; says so to those who do something else with it."""

    _name: str

    def _hint(self) -> str:
        return f"write 'async with {self._name}(...) as ...:' and use what that gives"

    def __await__(self) -> NoReturn:
        raise TypeError(f"{self._name}(...) is not to be awaited; {self._hint()}")

    if not TYPE_CHECKING:  # pragma: no branch - type checkers say so themselves

        def __aiter__(self) -> NoReturn:
            raise TypeError(f"{self._name}(...) is not for 'async for'; {self._hint()}")

    def __enter__(self) -> NoReturn:
        raise TypeError(f"{self._name}(...) is not for a plain 'with'; {self._hint()}")

    def __exit__(self, *_: object) -> None:
        """Never called; without it, Python's own error comes first."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{self._name}(...) has no {name!r}; {self._hint()}")


def block(
    name: str,
) -> Callable[
    [Callable[ArgsP, AbstractAsyncContextManager[ValueT]]], Callable[ArgsP, AbstractAsyncContextManager[ValueT]]
]:
    """Decorate a function that returns an async context manager, so that who awaits it gets an error that says what to do."""

    def decorate(
        make: Callable[ArgsP, AbstractAsyncContextManager[ValueT]],
    ) -> Callable[ArgsP, AbstractAsyncContextManager[ValueT]]:
        @wraps(make)
        def open_block(*args: ArgsP.args, **options: ArgsP.kwargs) -> AbstractAsyncContextManager[ValueT]:
            return _Block(name, make(*args, **options))

        return open_block

    return decorate


@final
class _Block(UsedAsBlock, AbstractAsyncContextManager[ValueT]):
    def __init__(self, name: str, inner: AbstractAsyncContextManager[ValueT]) -> None:
        self._name = name
        self._inner = inner

    async def __aenter__(self) -> ValueT:
        return await self._inner.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._inner.__aexit__(kind, error, traceback)  # noqa: ASYNC102  # it bounds itself


def describe_no_connection(value: object) -> str:
    """Return the end of the error for something that is given as a connection and is none: what it is, and what to write."""
    name = f"{value._name}(...)" if isinstance(value, UsedAsBlock) else type(value).__name__
    return f"{name}{_hint_for_connection(value)}"


def _hint_for_connection(value: object) -> str:
    if isinstance(value, (str, list, tuple)):
        return "; write: async with natsery.connect(url) as nc"
    if isinstance(value, UsedAsBlock):
        return f"; {value._hint()}"
    if type(value).__name__ == "MemoryBroker":
        return "; write: async with broker.connect() as nc"
    if any(base.__module__.split(".")[0] == "nats" for base in type(value).__mro__):
        return "; for a nats-py client write: async with natsery.adapt(client) as nc"
    if hasattr(value, "__aenter__"):
        return "; use it with 'async with' and give what that yields"
    return "; a connection comes from natsery.connect, and from natsery.adapt for a nats-py client"
