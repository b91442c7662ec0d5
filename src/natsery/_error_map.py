"""`map_errors`: a middleware that answers exceptions of the program with error codes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from ._checks import check_argument
from ._handlers import Handler
from ._service_error import ServiceError, description_rule, read_code

if TYPE_CHECKING:
    from ._service._request import Request

ErrorMapping: TypeAlias = "Mapping[type[Exception], int | tuple[int, str]]"
"""The code, or the code and the description, that the requester gets for each class of exceptions."""


def map_errors(mapping: ErrorMapping) -> Callable[[Request, Handler], Awaitable[bytes | None]]:
    """Return a middleware that answers exceptions of these classes, and of subclasses, with error codes::

        natsery.ServiceConfig(..., middlewares=[natsery.map_errors({KeyError: (404, "not found"), ValueError: 400})])

    With a code alone, the requester is told the exception's text, or its class if it has none: give a description where that
    text is not for others. The class that is nearest to the exception's own counts. A group of exceptions that all have the
    same answer gets that. All others are 500, as without it. What is mapped is expected, and so it is not logged.

    It works for a service, for a group and for an endpoint; the innermost that knows an exception answers it.

    Raises:
        TypeError, ValueError: a key is no class of exceptions, a code is no number, or a description is empty.
    """
    if not isinstance(mapping, Mapping):
        raise TypeError(f"mapping: must be a dict of classes and codes, such as {{ValueError: 400}}; got {mapping!r}")
    answers = {_check_class(key): _check_answer(key, value) for key, value in mapping.items()}

    async def map_error(request: Request, handler: Handler) -> bytes | None:
        try:
            return await handler(request)
        except Exception as error:
            answer = _answer_to(error, answers)
            if answer is None:
                raise
            raise answer from error

    return map_error


def _check_class(value: object) -> type[Exception]:
    if isinstance(value, type) and issubclass(value, ServiceError):
        raise TypeError("mapping: must not have ServiceError, which is an answer already")
    if isinstance(value, type) and issubclass(value, Exception):
        return value
    raise TypeError(f"mapping: must have classes of exceptions as keys; got {value!r}")


def _check_answer(key: type[Exception], value: object) -> tuple[int, str | None]:
    if not isinstance(value, tuple):
        return read_code(value), None
    if len(value) != 2:
        raise ValueError(f"mapping[{key.__name__}]: must be a code, or (code, description); got {value!r}")
    code, description = value
    return read_code(code), check_argument("description", description, description_rule)


def _answer_to(error: Exception, answers: Mapping[type[Exception], tuple[int, str | None]]) -> ServiceError | None:
    if isinstance(error, ExceptionGroup):
        members = [_answer_to(each, answers) for each in error.exceptions]
        first = members[0]
        is_one = all(each is not None and first is not None and str(each) == str(first) for each in members)
        return first if is_one else None
    for cls in type(error).__mro__:
        if cls in answers:
            code, description = answers[cls]
            return ServiceError(code, description or str(error).strip() or type(error).__name__)
    return None
