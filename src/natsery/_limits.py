"""How requests are handled, where it is said: queue groups, limits and middlewares, of endpoints and of groups."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from enum import Enum
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias, TypedDict, runtime_checkable

from . import _subjects
from ._checks import WrongType, check_config, count_rule, flag_rule, function_rule, seconds_rule
from ._errors import ConfigError
from ._handlers import Handler, check_hook_parameters

if TYPE_CHECKING:
    from ._service._request import Request

Middleware: TypeAlias = "Callable[[Request, Handler], Awaitable[bytes | None]]"
"""Wraps a handler: called with the request and the next handler, returns what the handler would."""


class _NoQueueGroup(Enum):
    NO_QUEUE_GROUP = "NO_QUEUE_GROUP"

    def __repr__(self) -> str:
        return "natsery.NO_QUEUE_GROUP"


NO_QUEUE_GROUP: Final = _NoQueueGroup.NO_QUEUE_GROUP
"""As a queue group: none at all, so that each instance gets every request."""

QueueGroup: TypeAlias = "str | Literal[_NoQueueGroup.NO_QUEUE_GROUP] | None"
"""A queue group's name, ``NO_QUEUE_GROUP``, or ``None`` to inherit the parent's."""


def check_hook(where: str, function: object, *names: str) -> None:
    """Refuse what is not a function, or cannot be called with so many positional arguments."""
    check_config(where, function, function_rule)
    check_hook_parameters(where, function, *names)


def _check_queue_group_choice(where: str, value: object) -> None:
    """Refuse what is no queue group's name, ``NO_QUEUE_GROUP``, or ``None`` to inherit."""
    if value is not None and value is not NO_QUEUE_GROUP:
        check_config(where, value, _subjects.queue_group_rule)


def _check_middlewares(where: str, value: object) -> tuple[Middleware, ...]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise ConfigError(where, value, "must be a sequence of middlewares")
    middlewares = tuple(value)
    for middleware in middlewares:
        check_hook(where, middleware, "request", "handler")
    return middlewares


@runtime_checkable
class Limiter(Protocol):
    """What can be a ``limiter``: an ``anyio.CapacityLimiter``, one of trio's, or an object of your own with these methods."""

    async def acquire_on_behalf_of(self, borrower: object) -> None:
        """Wait until a request, the borrower, may be handled. Called in its worker's task.

        What it raises counts as raised by the handler.

        **Cancellation:** at the request's deadline and when it is cut off; nothing is to be released then.
        """

    def release_on_behalf_of(self, borrower: object) -> None:
        """Let another request be handled, for this one has ended. Called once for each that was let through."""


def _limiter_rule(value: object) -> str | None:
    """What can be a limiter."""
    if isinstance(value, Limiter) and not inspect.isclass(value):
        return None
    return WrongType("must be a limiter; write anyio.CapacityLimiter(10)")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How requests are handled, where it is said: by an endpoint, or by a group for those inside that do not say."""

    queue_group: QueueGroup = None
    concurrency: int | None = None
    timeout: float | None = None
    pending_messages: int | None = None
    pending_bytes: int | None = None
    pending_seconds: float | None = None
    timeout_from_arrival: bool | None = None
    limiter: Limiter | None = None
    middlewares: Sequence[Middleware] = ()

    def _check(self, where: str) -> None:
        _check_queue_group_choice(f"{where}.queue_group", self.queue_group)
        for name in ("timeout", "pending_seconds"):
            if getattr(self, name) is not None:
                check_config(f"{where}.{name}", getattr(self, name), seconds_rule(infinite=True))
        if self.timeout_from_arrival is not None:
            check_config(f"{where}.timeout_from_arrival", self.timeout_from_arrival, flag_rule)
        if self.limiter is not None:
            check_config(f"{where}.limiter", self.limiter, _limiter_rule)
        for name in ("concurrency", "pending_messages", "pending_bytes"):
            if getattr(self, name) is not None:
                check_config(f"{where}.{name}", getattr(self, name), count_rule)
        object.__setattr__(self, "middlewares", _check_middlewares(f"{where}.middlewares", self.middlewares))

    def inside(self, outer: Limits) -> Limits:
        """Return what holds inside another group: each limit from the innermost that says it, middlewares of both."""
        said = {name: value for name in _INHERITED if (value := getattr(self, name)) is not None}
        if not said and not self.middlewares:
            return outer  # which many endpoints then share
        return replace(outer, **said, middlewares=(*outer.middlewares, *self.middlewares))


_INHERITED: Final = tuple(each.name for each in fields(Limits) if each.name != "middlewares")


class GroupOptions(TypedDict, total=False):
    """What `group` takes by name."""

    queue_group: QueueGroup
    concurrency: int | None
    timeout: float | None
    pending_messages: int | None
    pending_bytes: int | None
    pending_seconds: float | None
    timeout_from_arrival: bool | None
    limiter: Limiter | None
    middlewares: Sequence[Middleware]
