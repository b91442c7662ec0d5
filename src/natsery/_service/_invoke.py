"""How a handler is called: its middlewares, its time-out, and what is a cancellation among what it raised."""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable

import anyio
from anyio import get_cancelled_exc_class

from .._handlers import Handler
from .._limits import Middleware
from .._message import Message
from ._request import Request


def compose(handler: Handler, middlewares: tuple[Middleware, ...]) -> Handler:
    """Return a handler inside its middlewares, the first one outermost."""
    for middleware in reversed(middlewares):
        handler = _wrap(middleware, handler)
    return handler


def _wrap(middleware: Middleware, inner: Handler) -> Handler:
    def call(request: Request) -> Awaitable[bytes | None]:
        return middleware(request, inner)

    return call


def reply_from(result: object, *, is_part: bool = False) -> bytes:
    """Return what a handler returned or yielded as the payload of a reply.

    Raises:
        TypeError: it is not bytes; the error says what to write instead.
    """
    if isinstance(result, (bytes, bytearray, memoryview)):
        return bytes(result)
    if inspect.iscoroutine(result):
        result.close()
        hint = "; write 'await request.respond(...)'"
    else:
        hint = _how_to_encode(result, "AsyncIterator[{}]" if is_part else "{}")
    wanted = "yield bytes" if is_part else "return bytes or None"
    raise TypeError(f"a handler must {wanted}, not {type(result).__name__}{hint}")


def _how_to_encode(result: object, annotation: str) -> str:
    if isinstance(result, Message):
        return "; write message.data"
    if type(result) is object:
        return ""
    return f"; annotate it, as with '-> {annotation.format(type(result).__name__)}', to have that encoded"


def without_cancellations(error: BaseException) -> BaseException | None:
    """Return an error without the cancellations in it, ``None`` if it is nothing else; asyncio's count on trio, too."""
    from .._backends._asyncio import AsyncioCancelledError

    # asyncio's class counts where trio runs too: a thread's or another loop's cancellation may get out.
    classes = (get_cancelled_exc_class(), AsyncioCancelledError)
    if isinstance(error, BaseExceptionGroup):
        return error.split(classes)[1]
    return None if isinstance(error, classes) else error


def stray_cancellation(what: str, error: BaseException) -> RuntimeError:
    """Return the error to report for a cancellation that left user code although its task is not cancelled."""
    stray = RuntimeError(f"{what} raised {type(error).__name__} although nothing cancelled it")
    stray.__cause__ = error
    return stray


def error_of_hook(what: str, error: BaseException) -> Exception:
    """Return the error to report for what left a hook of the service.

    Raises:
        BaseException: ``error`` itself, if it is a cancellation of this task or an exception that ends the program.
    """
    if isinstance(error, Exception):
        return error
    if anyio.current_effective_deadline() == -math.inf:
        raise error
    rest = without_cancellations(error)
    if rest is None:
        return stray_cancellation(what, error)
    if isinstance(rest, Exception):
        return rest
    raise error


def split_cancellations(error: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """Return the cancellations in an error, and the rest."""
    cancelled = get_cancelled_exc_class()
    if isinstance(error, BaseExceptionGroup):
        return error.split(cancelled)
    return (error, None) if isinstance(error, cancelled) else (None, error)
