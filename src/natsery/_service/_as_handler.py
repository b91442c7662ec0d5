"""Makes the `Handler` of an endpoint of the function that a user has declared: reads bodies, writes results, uses threads."""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread

from .._codecs._codec import Codec
from .._errors import DecodeError, InvalidBodyError
from .._handlers import NO_BODY, Handler, Signature
from .._service_config import PlacedEndpoint
from ._request import Request
from ._stream import stream


def as_handler(placed: PlacedEndpoint, default_codec: Codec) -> Handler:
    """Return what answers the requests of an endpoint, inside its middlewares.

    A function that takes a request and returns bytes is returned as it is, and costs nothing more.
    """
    signature = placed.config._read_signature()
    function: Callable[..., Any] = placed.config.handler
    if signature.is_plain:
        return function
    codec = placed.config.codec or default_codec
    if signature.in_thread:
        function = _in_thread(function)
    read = _reader(signature, codec)
    write = _writer(signature, codec)

    async def handle_stream(request: Request) -> None:
        await stream(function(*read(request)), write, request)

    if signature.is_stream:
        return handle_stream

    async def handle(request: Request) -> bytes | None:
        result = await function(*read(request))
        return None if result is None else write(result)

    return handle


def _reader(signature: Signature, codec: Codec) -> Callable[[Request], tuple[Any, ...]]:
    """Return what makes a handler's arguments of a request."""
    if signature.body is NO_BODY:
        return lambda request: (request,)
    decode = _keep if signature.body is bytes else codec.decoder(signature.body)

    def read_body(request: Request) -> Any:
        try:
            return decode(request.data)
        except DecodeError as error:
            raise InvalidBodyError(error.path, error.reason) from error

    if signature.takes_request:
        return lambda request: (request, read_body(request))
    return lambda request: (read_body(request),)


def _writer(signature: Signature, codec: Codec) -> Callable[[Any], bytes]:
    """Return what makes a reply of a handler's result."""
    if signature.result is bytes:
        return _keep
    encode = codec.encoder(signature.result)
    return lambda result: result if type(result) is bytes else encode(result)


def _keep(value: Any) -> Any:
    return value


def _in_thread(function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """Return an async function that calls a plain one in a worker thread."""
    cancelled = anyio.get_cancelled_exc_class()
    limiter = anyio.CapacityLimiter(math.inf)  # its workers bound them, and not the limit of the program

    def run(*args: Any) -> Any:
        try:
            result = function(*args)
        except cancelled:  # perhaps that of what it had the event loop run, which does not say whose it is
            anyio.from_thread.check_cancelled()
            raise
        if inspect.iscoroutine(result):
            result.close()
            hint = "write anyio.from_thread.run(request.respond, ...) to await something there"
            raise TypeError(f"a handler in a thread must return no coroutine; {hint}")
        return result

    async def call(*args: Any) -> Any:
        return await anyio.to_thread.run_sync(run, *args, limiter=limiter)

    return call
