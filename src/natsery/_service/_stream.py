"""A streamed reply: runs the generator that yields it, and sends part by part as fast as the requester takes it."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Any, Final, final

import anyio

from .._adr32 import REQUESTER_SILENT
from .._condition_event import ConditionEvent
from .._errors import NatseryError
from .._service_error import error_headers
from .._statistics import Failure, FailureCause
from .._stream_headers import window_headers
from ._invoke import reply_from
from ._request import Request

if TYPE_CHECKING:
    from ._context import ServiceContext

CLEANUP_SECONDS: Final = 5.0
"""How long a generator that is closed at a ``yield`` may take for its ``finally``, if the service's grace is not shorter."""

MAX_UNANSWERED: Final = 3
"""Heartbeats in a row that a requester may leave unanswered; then it counts as gone."""


async def stream(generator: AsyncGenerator[Any, None], write: Callable[[Any], Any], request: Request) -> None:
    """Send each value that a generator yields as a reply, and an empty one at the end.

    Returns early if the requester has left. The generator has ended when this returns or raises.
    """
    streams = request.endpoint._context.streams
    replies = await streams.open(request)
    try:
        await replies.run(generator, write)
    finally:
        streams.close(replies)


@final
class StreamedReplies:
    """The replies to one request.

    A ``yield`` acts as ``await request.respond(part)`` would in its place: what is wrong with a part, and the cancellation of a
    scope that the generator has open, are raised there.

    Args:
        context: what the service's parts share.
        request: the request.
        subject: what the subjects of acknowledgements begin with; ``""`` if there are none.
        window: how many replies may be unacknowledged, 0 for any number.
    """

    def __init__(self, context: ServiceContext, request: Request, subject: str, window: int) -> None:
        self.request: Request = request
        self.subject: str = subject
        self._context = context
        self._window = window
        self._sent = 0
        self._acknowledged = 0
        self._idle_beats = 0
        self._unanswered = 0
        self._is_left = self._is_silent = False
        self._has_room = ConditionEvent(
            lambda: self._is_left or not self._window or self._sent - self._acknowledged < self._window
        )
        # The generator may hold scopes of its own open at a `yield`. These two stand around all of them from the first step
        # on, for scopes have to be left in the opposite order in which they were entered.
        self._closing = anyio.CancelScope()
        self._waiting = anyio.CancelScope()
        self._is_at_yield = False

    async def run(self, generator: AsyncGenerator[Any, None], write: Callable[[Any], Any]) -> None:
        """Send what a generator yields, close it, and send the end."""
        fatal: BaseException | None = None
        with self._closing, self._waiting:
            try:
                if self._window:
                    await self._say_open()
                await self._send_parts(generator, write)
            except (Exception, anyio.get_cancelled_exc_class()):
                raise
            except BaseException as error:
                fatal = error
                raise
            finally:
                await self._close(generator)  # noqa: ASYNC102  # shielded and bounded in there
        if fatal is not None:  # the clean-up took too long, and its cancellation stands in place of this
            raise fatal
        request = self.request
        if self._is_silent:
            request._failure = request._failure or Failure(FailureCause.REQUESTER_GONE, *REQUESTER_SILENT)
            if not request._has_ended:
                # It may be there after all.
                await self._context.fast_path._send(request.reply, headers=error_headers(*REQUESTER_SILENT))
        elif self._is_left:
            pass  # which is a requester's right, and no failure
        elif not request._has_sent_error and not request._has_ended:
            await request._send(b"", None, acknowledgements=self._numbered(self._sent + 1))

    async def beat(self) -> None:
        """Say that the stream is open if nothing has been sent for a while; give up a requester that leaves that unanswered.

        Called twice in the time after which a heartbeat is due.
        """
        self._idle_beats += 1
        if self._idle_beats < 2 or not self._window or self._is_left or self.request._has_ended:
            return
        if self._unanswered >= MAX_UNANSWERED:
            # The server does not say that it has left if it is in another account, or frozen.
            self._is_silent = True
            self.leave()
        else:
            await self._say_open()

    def acknowledge(self, number: int) -> None:
        """Note that the requester is there, and has taken all replies up to this one."""
        self._unanswered = 0
        self._acknowledged = max(self._acknowledged, min(number, self._sent))
        self._has_room.check()

    def leave(self) -> None:
        """Have the generator end, because the requester takes no more."""
        self._is_left = True
        self._has_room.check()
        if not self._is_at_yield:
            self._waiting.cancel("the requester has left")

    def lift_window(self) -> None:
        """Go on without acknowledgements."""
        self.subject = ""
        self._window = 0
        self._has_room.check()

    async def _say_open(self) -> None:
        """Tell the requester that there are replies to come, and where it can answer."""
        self._idle_beats = 0
        self._unanswered += 1
        await self._context.fast_path._send(
            self.request.reply, reply=self._numbered(0), headers=window_headers(self._window)
        )

    def _numbered(self, number: int) -> str:
        return f"{self.subject}.{number}" if self.subject else ""

    async def _send_parts(self, generator: AsyncGenerator[Any, None], write: Callable[[Any], Any]) -> None:
        """Send what a generator yields, until it ends or the requester has left."""
        error: BaseException | None = None
        while not self._is_left:
            self._is_at_yield = False
            try:
                part = await (anext(generator) if error is None else generator.athrow(error))
            except StopAsyncIteration:
                return
            self._is_at_yield = True
            error = None
            try:
                await self._send(write(part))
            except Exception as problem:  # of any kind, for codecs and connections raise what they like
                error = problem
            except BaseException as cancellation:  # noqa: ASYNC103  # the generator raises it again, or its own scope takes it
                if not self._is_cancelled_inside():
                    raise
                error = cancellation

    async def _send(self, part: Any) -> None:
        data = part if type(part) is bytes else reply_from(part, is_part=True)
        if not data:
            raise ValueError("a handler must not yield an empty reply, which marks the end; leave it out")
        await self._context.turns.checkpoint(len(data))
        await self._has_room.wait()
        if self._is_left:
            return
        # Counted before it is sent: cancelled while it waits there, it is on its way.
        self._sent += 1
        self._idle_beats = 0
        try:
            await self.request._send(data, None, acknowledgements=self._numbered(self._sent))
        except Exception:
            self._sent -= 1
            raise

    def _is_cancelled_inside(self) -> bool:
        """Whether a scope is cancelled that the generator has open at its ``yield``."""
        self._closing.shield = True
        is_cancelled = anyio.current_effective_deadline() == -math.inf
        self._closing.shield = False
        return is_cancelled

    async def _close(self, generator: AsyncGenerator[Any, None]) -> None:
        """End the generator at its ``yield``, so that its ``finally`` may wait."""
        if not self._is_at_yield:
            return
        service = self._context.service
        # Protects the generator's clean-up from the cancellation that has ended the stream, within this bound.
        self._closing.deadline = anyio.current_time() + min(
            CLEANUP_SECONDS, math.inf if service is None else service._grace
        )
        self._closing.shield = True
        try:
            await _close_generator(generator)
        except Exception as error:
            self._context.errors.report(error, self.request.endpoint, self.request, traceback=True)
        except BaseException:
            if self._closing.cancel_called:
                late = NatseryError("a generator was closed, and its clean-up was cancelled because it took too long")
                self._context.errors.report(late, self.request.endpoint, self.request)
            raise
        finally:
            self._closing.shield = False


async def _close_generator(generator: AsyncGenerator[Any, None]) -> None:
    """Close a generator, which may have a task group open at its ``yield``."""
    try:
        await generator.aclose()
    except BaseExceptionGroup as group:
        # A task group does not let `GeneratorExit` out as it is.
        rest = group.split(GeneratorExit)[1]
        if rest is not None:
            raise rest from None
