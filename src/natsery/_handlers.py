"""What an endpoint's function may look like: how it is called, and what it takes and gives. Read once, when it is declared."""

from __future__ import annotations

import collections.abc
import functools
import inspect
import re
import sys
import types
import typing
from collections.abc import AsyncIterator, Awaitable, Callable
from types import FunctionType, MethodType, SimpleNamespace
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    NamedTuple,
    NewType,
    TypeAlias,
    TypeVar,
    Union,
    cast,
    final,
    get_args,
    get_origin,
)

from ._errors import ConfigError
from ._message import Message

if TYPE_CHECKING:
    from ._service._request import Request

Handler: TypeAlias = "Callable[[Request], Awaitable[bytes | None]]"
"""Answers one request: returns the reply, or ``None`` after ``request.respond…``, or to stay silent."""

EndpointHandler: TypeAlias = "Callable[..., Awaitable[Any] | AsyncIterator[Any] | Any]"
"""What an endpoint calls: an async function of the request, of its body, or of both; or an async generator function, each
``yield`` of which is a reply; or a plain function, with ``in_thread=True``.
"""

NO_BODY: Final = inspect.Parameter.empty
"""In place of a body's type: the handler takes the request alone."""

_REQUEST = re.compile(r"\s*(?:\w+\.)*(?:Request|Message)\s*(?:\[.*\])?\s*", re.DOTALL)
_UNDECLARED = (inspect.Parameter.empty, Any, object)
_FORMS = "(request), (body) or (request, body)"


@final
class Signature(NamedTuple):
    """How a handler is called.

    Attributes:
        takes_request: whether its first argument is the request.
        body: the type of the body that it takes, `NO_BODY` if it takes none; ``bytes`` for the payload as it came.
        result: the type of what it returns or yields; ``bytes`` for what is sent as it is.
        is_stream: whether it is an async generator function.
        in_thread: whether it is a plain function for a thread.
    """

    takes_request: bool
    body: Any
    result: Any
    is_stream: bool
    in_thread: bool

    @property
    def is_plain(self) -> bool:
        """Whether the function is a `Handler` as it stands, so that nothing has to be put around it."""
        return (
            self.takes_request
            and self.body is NO_BODY
            and self.result is bytes
            and not self.is_stream
            and not self.in_thread
        )


def is_in_class_body(handler: object) -> bool:
    """Whether a function was defined in the body of a class, where it is declared before there is an instance."""
    return "." in getattr(handler, "__qualname__", "").rpartition("<locals>.")[2]


def check_handler(where: str, handler: Any, *, in_thread: bool) -> None:
    """Refuse what an endpoint cannot call, apart from its parameters."""
    if isinstance(handler, classmethod):
        raise ConfigError(where, handler, "must be an async function; write @classmethod above @endpoint, not below it")
    if not callable(handler):
        raise ConfigError(where, handler, "must be an async function")
    if inspect.isclass(handler):
        raise ConfigError(where, handler, "must be an async function, not a class; write an instance's bound method")
    if getattr(handler, "__name__", None) == "<lambda>":
        raise ConfigError(where, handler, "must be an async function, not a lambda; write 'async def name(request):'")
    called = _called_function(handler)
    if inspect.isgeneratorfunction(called):
        raise ConfigError(where, handler, "must be an async function; write 'async def', which may use 'yield' too")
    # A decorator may return a plain function that returns what the async one inside it does.
    written = _written_function(handler)
    is_async = any(map(inspect.iscoroutinefunction, (handler, called, written))) or _is_stream(called)
    if in_thread and is_async:
        raise ConfigError(where, handler, "must be a plain function; in_thread=True is not for 'async def'")
    if isinstance(written, (FunctionType, MethodType)) and not is_async and not in_thread:
        raise ConfigError(
            where, handler, "must be an async function; write 'async def', or in_thread=True for a thread"
        )


def read_signature(where: str, handler: Any, *, in_thread: bool) -> Signature:
    """Return how a handler is called.

    Raises:
        ConfigError: it takes something else than a request and a body, or a type cannot be found.
    """
    called = _called_function(handler)
    is_async = inspect.iscoroutinefunction(called)
    is_stream = not is_async and _is_stream(called)
    signature = _signature_of(handler)
    if signature is None:
        return Signature(takes_request=True, body=NO_BODY, result=bytes, is_stream=is_stream, in_thread=in_thread)
    find = functools.partial(_find_type, where, _written_function(handler))
    takes_request, body = _read_parameters(where, handler, signature, find)
    result = find("what it returns", signature.return_annotation)
    if is_stream:
        result = _argument_of(result, collections.abc.AsyncIterable)
    elif not is_async:
        result = _argument_of(result, collections.abc.Awaitable)
    if result in _UNDECLARED:
        # With a typed body, whatever is returned is encoded; without one, it has to be bytes.
        result = bytes if body is NO_BODY or body is bytes else Any
    elif result is not bytes:
        result = _without(result, types.NoneType, bytes, bytearray, memoryview)
    return Signature(takes_request=takes_request, body=body, result=result, is_stream=is_stream, in_thread=in_thread)


def check_hook_parameters(where: str, function: Any, *names: str) -> None:
    """Refuse a function that cannot be called with so many positional arguments."""
    signature = _signature_of(function)
    if signature is None:
        return
    try:
        signature.bind(*names)
    except TypeError:
        raise _wrong_parameters(where, function, signature, f"({', '.join(names)})") from None


def _called_function(handler: Any) -> Any:
    """Return the function that runs when a handler is called: without partials, and that of an object with ``__call__``."""
    called = _without_partials(handler)
    return called if inspect.isroutine(called) else type(called).__call__


def _written_function(handler: Any) -> Any:
    """Return the function that a user has written: the one inside decorators, which may be objects of other modules."""
    written = inspect.unwrap(_without_partials(handler))
    return written if inspect.isroutine(written) else type(written).__call__


def _without_partials(handler: Any) -> Any:
    while isinstance(handler, functools.partial):
        handler = handler.func
    return handler


def _is_stream(called: Any) -> bool:
    """Whether a function that is no coroutine function streams; a coroutine function may collect what a stream inside yields."""
    return inspect.isasyncgenfunction(called) or inspect.isasyncgenfunction(inspect.unwrap(called))


def _signature_of(function: Any) -> inspect.Signature | None:
    """Return a function's own signature, ``None`` if it cannot be found out, as for some functions written in C."""
    options: dict[str, Any] = {}
    if sys.version_info >= (3, 14):  # pragma: no cover - measured with the oldest Python
        from annotationlib import Format

        options["annotation_format"] = Format.FORWARDREF
    try:
        try:
            # Its own: a decorator may give the function inside it other arguments.
            signature = inspect.signature(function, follow_wrapped=False, **options)
        except ValueError:
            return inspect.signature(function, **options)  # `functools.cache` and the like, which have none
        if all(each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD) for each in signature.parameters.values()):
            signature = inspect.signature(function, **options)  # a decorator that passes everything on
    except (TypeError, ValueError):
        return None
    return signature


def _read_parameters(
    where: str, handler: Any, signature: inspect.Signature, find: Callable[[str, Any], Any]
) -> tuple[bool, Any]:
    """Return whether a handler takes the request, and the type of its body."""
    parameters = list(signature.parameters.values())
    positional = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    others = parameters[len(positional) :]  # positional ones come first
    needed = [each for each in positional if each.default is each.empty]
    is_keyword_needed = any(each.kind is each.KEYWORD_ONLY and each.default is each.empty for each in others)
    takes_any = any(each.kind is each.VAR_POSITIONAL for each in others)
    is_unbound = parameters[:1] and parameters[0].name == "self"
    if len(needed) > 2 or is_keyword_needed or is_unbound or not (positional or takes_any):
        raise _wrong_parameters(where, handler, signature, _FORMS)
    taken = needed or positional[:1]
    types_ = [find(f"its parameter {each.name!r}", each.annotation) for each in taken]
    if not types_:
        return True, NO_BODY
    takes_request = types_[0] in _UNDECLARED or _is_request(types_[0])
    if len(types_) == 1:
        return takes_request, NO_BODY if takes_request else types_[0]
    if not takes_request or _is_request(types_[1]):
        raise ConfigError(where, handler, f"must take {_FORMS}, the request first; it takes {signature}")
    return True, Any if types_[1] in _UNDECLARED else types_[1]


def _wrong_parameters(where: str, function: Any, signature: inspect.Signature, wanted: str) -> ConfigError:
    parameters = list(signature.parameters)
    hint = "; pass a bound method, as instance.method" if parameters[:1] == ["self"] else ""
    return ConfigError(where, function, f"must take {wanted}, and takes {signature}{hint}")


def _find_type(where: str, function: Any, what: str, annotation: Any) -> Any:
    """Return the type that an annotation stands for; those written as text are looked up in the function's module."""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return annotation  # a class stands for itself
    if not isinstance(annotation, str) and _is_request(annotation):
        return annotation
    namespace = getattr(function, "__globals__", {})
    try:
        hints = typing.get_type_hints(
            SimpleNamespace(__annotations__={"it": annotation}), globalns=namespace, include_extras=True
        )
        meant = _meant_by(hints["it"])
    except Exception as error:  # whatever evaluating it raises
        text = annotation if isinstance(annotation, str) else getattr(annotation, "__forward_arg__", "")
        if _REQUEST.fullmatch(text):
            return Message
        hint = "import its names at run time too, and define them at the top of the module"
        raise ConfigError(
            where, function, f"has a type that cannot be found: {what}, {text!r} ({error}); {hint}"
        ) from None
    # Requests and bytes are for no codec, whatever they are called.
    return meant if _is_request(meant) or bytes in (meant, *_members_of(meant)) else hints["it"]


def _meant_by(type_: Any) -> Any:
    """Return what an alias, an ``Annotated``, a ``NewType`` or the bound of a type variable stands for."""
    while True:
        alias = get_origin(type_) or type_
        if alias is Annotated:
            type_ = type_.__origin__
        elif isinstance(alias, NewType):
            type_ = alias.__supertype__
        elif isinstance(alias, TypeVar) and alias.__bound__ is not None:
            type_ = alias.__bound__
        elif type(alias).__name__ == "TypeAliasType":  # of typing since Python 3.12, or of typing_extensions
            type_ = cast("Any", alias).__value__
        else:
            return type_


def _members_of(type_: Any) -> tuple[Any, ...]:
    """Return the members of a union; none for another type."""
    return get_args(type_) if get_origin(type_) in (Union, types.UnionType) else ()


def _is_request(type_: Any) -> bool:
    class_ = get_origin(type_) or type_
    return isinstance(class_, type) and issubclass(class_, Message)


def _argument_of(type_: Any, generic: type) -> Any:
    """Return what an ``Awaitable[X]``, ``AsyncIterator[X]`` or the like gives; another type as it is."""
    origin, arguments = get_origin(type_) or type_, get_args(type_)
    if not (isinstance(origin, type) and issubclass(origin, generic)):
        return type_
    if not arguments:
        return inspect.Parameter.empty
    return arguments[-1] if issubclass(origin, collections.abc.Coroutine) else arguments[0]


def _without(type_: Any, *members: type) -> Any:
    """Return a type, or a union without these members; ``bytes`` if nothing is left."""
    given = _members_of(type_) or (type_,)
    left = [each for each in given if _meant_by(each) not in members]
    if len(left) == len(given):
        return type_
    return Union[tuple(left)] if left else bytes  # noqa: UP007  # made at run time
