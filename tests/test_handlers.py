"""What a handler takes and gives, as read from its signature."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NewType, TypeVar

import pytest
from typing_extensions import TypeAliasType

import natsery
from natsery import ConfigError, EndpointConfig, ServiceConfig
from natsery._handlers import NO_BODY

from .decorators import WrittenElsewhere

if TYPE_CHECKING:
    from natsery import Message as Absent
    from natsery import Request


@dataclass
class Order:
    count: int


async def of_nothing_known(request): ...
async def of_the_request(request: natsery.Request) -> bytes: ...
async def of_a_request_with_state(request: natsery.Request[Order]) -> bytes | None: ...
async def of_a_request_for_type_checkers(request: Request[Absent]) -> None: ...
async def of_a_message(message: natsery.Message) -> bytes: ...
async def of_anything(request: Any) -> Any: ...
async def of_optional_parameters(request=None, other: int = 3) -> bytes: ...
async def of_arguments(*args: object) -> bytes: ...
async def of_a_body(body: Order) -> Order: ...
async def of_bytes(body: bytes) -> bytes: ...
async def of_bytes_to_a_type(body: bytes) -> Order: ...
async def of_a_request_and_a_body(request: natsery.Request, body: list[Order]) -> Order | None: ...
async def of_an_unknown_request_and_a_body(request, body: Order): ...
async def of_an_unknown_body(request, body): ...
async def of_a_request_to_a_type(request: natsery.Request) -> Order | bytes: ...
async def a_stream(request: natsery.Request) -> AsyncIterator[bytes]:
    yield b""


async def a_typed_stream(body: Order) -> AsyncGenerator[Order, None]:
    yield body


async def an_undeclared_stream(request):
    yield b""


async def a_stream_of_anything(request) -> AsyncIterator:
    yield b""


def a_decorator(handler):
    @functools.wraps(handler)
    async def call(*args, **kwargs):
        return await handler(*args, **kwargs)

    return call


def awaitable(request: natsery.Request) -> Awaitable[Order]: ...
def coroutine(request: natsery.Request) -> Coroutine[Any, Any, Order]: ...


def declared(function):
    """As a decorator in front of an async function leaves it."""
    function.__wrapped__ = of_the_request
    return function


def a_collector(handler):
    @functools.wraps(handler)
    async def call(*args):
        return [each async for each in handler(*args)]

    return call


Payload = NewType("Payload", bytes)
RequestT = TypeVar("RequestT", bound=natsery.Request)
Body = TypeAliasType("Body", Order)
Bytes = TypeAliasType("Bytes", bytes | None)
StatefulRequest = TypeAliasType("StatefulRequest", natsery.Request[Order])


async def of_an_annotated_request(request: Annotated[natsery.Request, "a note"], body: Body) -> bytes: ...
async def of_an_alias_of_a_request(request: StatefulRequest) -> Bytes: ...
async def of_a_variable_request(request: RequestT) -> bytes: ...
async def of_annotated_bytes(body: Annotated[bytes, "a note"]) -> Annotated[bytes, "a note"]: ...
async def of_bytes_of_another_name(body: Payload) -> Payload | None: ...
async def of_a_note_without_a_hash(body: Annotated[int, []]) -> Annotated[int, []]: ...
async def of_the_request_to_a_bytearray(request) -> bytes | bytearray | memoryview: ...


@functools.cache
def a_cached_function(body: Order) -> Order: ...


class Handlers:
    async def method(self, body: Order) -> Order: ...
    async def __call__(self, request: natsery.Request, body: Order) -> bytes: ...

    @staticmethod
    async def static(body: Order) -> Order: ...


STREAMS = (a_stream, a_typed_stream, an_undeclared_stream, a_stream_of_anything)


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        (of_nothing_known, (True, NO_BODY, bytes)),
        (of_the_request, (True, NO_BODY, bytes)),
        (of_a_request_with_state, (True, NO_BODY, bytes)),
        (of_a_request_for_type_checkers, (True, NO_BODY, bytes)),
        (of_a_message, (True, NO_BODY, bytes)),
        (of_anything, (True, NO_BODY, bytes)),
        (of_optional_parameters, (True, NO_BODY, bytes)),
        (of_arguments, (True, NO_BODY, bytes)),
        (of_a_body, (False, Order, Order)),
        (of_bytes, (False, bytes, bytes)),
        (of_bytes_to_a_type, (False, bytes, Order)),
        (of_a_request_and_a_body, (True, list[Order], Order)),
        (of_an_unknown_request_and_a_body, (True, Order, Any)),
        (of_an_unknown_body, (True, Any, Any)),
        (of_a_request_to_a_type, (True, NO_BODY, Order)),
        (a_stream, (True, NO_BODY, bytes)),
        (a_typed_stream, (False, Order, Order)),
        (an_undeclared_stream, (True, NO_BODY, bytes)),
        (a_stream_of_anything, (True, NO_BODY, bytes)),
        (a_decorator(of_a_body), (False, Order, Order)),
        (a_collector(a_typed_stream), (False, Order, AsyncGenerator[Order, None])),
        (WrittenElsewhere(of_a_body), (False, Order, Order)),
        (of_an_annotated_request, (True, Body, bytes)),
        (of_an_alias_of_a_request, (True, NO_BODY, bytes)),
        (of_a_variable_request, (True, NO_BODY, bytes)),
        (of_annotated_bytes, (False, bytes, bytes)),
        (of_bytes_of_another_name, (False, bytes, bytes)),
        (of_a_note_without_a_hash, (False, Annotated[int, []], Annotated[int, []])),
        (of_the_request_to_a_bytearray, (True, NO_BODY, bytes)),
        (declared(awaitable), (True, NO_BODY, Order)),
        (declared(coroutine), (True, NO_BODY, Order)),
        (Handlers().method, (False, Order, Order)),
        (Handlers.static, (False, Order, Order)),
        (Handlers(), (True, Order, bytes)),
        (functools.partial(of_a_request_and_a_body, None), (False, list[Order], Order)),
    ],
)
def test_what_a_handler_takes_and_gives(handler, expected):
    signature = EndpointConfig("x", handler)._read_signature()
    assert (signature.takes_request, signature.body, signature.result) == expected
    assert signature.is_stream is (handler in STREAMS)


@pytest.mark.parametrize(
    "handler", [of_nothing_known, of_the_request, of_a_request_with_state, of_a_request_for_type_checkers, of_anything]
)
def test_a_handler_of_bytes_is_called_as_it_is(handler):
    config = ServiceConfig("x", "1.0.0", endpoints=[EndpointConfig("x", handler)])
    from natsery._service._as_handler import as_handler

    assert as_handler(config.placed_endpoints()[0], config.codec) is handler


async def body_first(body: Order, request: natsery.Request) -> bytes: ...
async def two_requests(request: natsery.Request, other: natsery.Message) -> bytes: ...
async def by_name(request, *, body: Order) -> bytes: ...
async def of_an_absent_type(body: Absent.Inner) -> bytes: ...  # type: ignore[name-defined]
async def to_an_absent_type(request) -> Absent.Inner: ...  # type: ignore[name-defined]


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (body_first, "the request first"),
        (two_requests, "the request first"),
        (by_name, r"must take \(request\), \(body\) or \(request, body\)"),
        (of_an_absent_type, "its parameter 'body', 'Absent.Inner'.* import its names at run time too"),
        (to_an_absent_type, "what it returns, 'Absent.Inner'"),
        (Handlers.method, "pass a bound method"),
    ],
)
def test_what_cannot_be_called_says_what_to_write(handler, reason):
    with pytest.raises(ConfigError, match=reason):
        ServiceConfig("x", "1.0.0", endpoints=[handler])


def test_the_types_of_a_cached_function_are_its_own():
    signature = EndpointConfig("x", a_cached_function, in_thread=True)._read_signature()
    assert (signature.takes_request, signature.body, signature.result) == (False, Order, Order)
    with pytest.raises(ConfigError, match="in_thread=True for a thread"):
        EndpointConfig("x", a_cached_function)


@pytest.mark.parametrize("declare", [natsery.endpoint, natsery.endpoint(concurrency=2)])
def test_a_class_method_says_where_to_declare_it(declare):
    with pytest.raises(ConfigError, match="write @classmethod above @endpoint, not below it"):
        declare(classmethod(of_a_body))
