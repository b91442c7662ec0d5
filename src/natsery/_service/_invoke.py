"""How a handler is called: its middlewares, its time-out, and what is a cancellation among what it raised."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable

import anyio
from anyio import get_cancelled_exc_class

from .._config import Handler, Middleware
from ._request import Request


class DeadlineExceededError(Exception):
    """The endpoint's time-out passed."""


async def within(timeout: float, handler: Handler, request: Request) -> bytes | None:
    """Call a handler that has so many seconds."""
    with anyio.move_on_after(timeout):
        return await handler(request)
    raise DeadlineExceededError


def compose(handler: Handler, middlewares: tuple[Middleware, ...]) -> Handler:
    """Return a handler inside its middlewares, the first one outermost."""
    for middleware in reversed(middlewares):
        handler = _wrap(middleware, handler)
    return handler


def _wrap(middleware: Middleware, inner: Handler) -> Handler:
    def call(request: Request) -> Awaitable[bytes | None]:
        return middleware(request, inner)

    return call


def reply_from(result: object) -> bytes:
    """Return what a handler returned as the payload of its reply.

    Raises:
        TypeError: it is not bytes; the error says what to write instead.
    """
    if isinstance(result, (bytes, bytearray, memoryview)):
        return bytes(result)
    if inspect.iscoroutine(result):
        result.close()
        hint = "; write 'await request.respond(...)'"
    else:
        hint = "; write text.encode()" if isinstance(result, str) else ""
    raise TypeError(f"a handler must return bytes or None, not {type(result).__name__}{hint}")


def is_only_cancellations(error: BaseException) -> bool:
    """Whether an error is a cancellation, or a group of nothing else."""
    # Local: this is rare, and asyncio takes long to import. Its class counts where trio runs too: a thread's or another
    # loop's cancellation may get out.
    from .._backends._asyncio import AsyncioCancelledError

    classes = (get_cancelled_exc_class(), AsyncioCancelledError)
    if isinstance(error, BaseExceptionGroup):
        return error.split(classes)[1] is None
    return isinstance(error, classes)


def split_cancellations(error: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """Return the cancellations in an error, and the rest."""
    cancelled = get_cancelled_exc_class()
    if isinstance(error, BaseExceptionGroup):
        return error.split(cancelled)
    return (error, None) if isinstance(error, cancelled) else (None, error)
