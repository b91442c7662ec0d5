"""A streamed reply: what an async generator yields is sent part by part, as fast as the requester takes it."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Any, final

import anyio

from .._adr32 import REQUESTER_GONE
from .._condition_event import ConditionEvent
from .._errors import NatseryError
from .._statistics import Failure, FailureCause
from .._stream_protocol import WINDOW_HEADER
from ._invoke import reply_from
from ._request import Request

if TYPE_CHECKING:
    from ._context import ServiceContext

MAX_CLOSE_SECONDS = 5.0
"""How long a generator that is closed at a ``yield`` may take to end, if the service's grace is not shorter."""


async def send_stream(request: Request, parts: AsyncGenerator[Any, None], encode: Callable[[Any], Any]) -> None:
    """Answer a request with all that a generator yields, and then with the end. The generator has ended on return."""
    streams = request.endpoint._context.streams
    stream = streams.begin(request)
    try:
        await stream.run(parts, encode)
    finally:
        streams.end(stream)


@final
class OutgoingStream:
    """One streamed reply.

    A ``yield`` acts as ``await request.respond(part)`` would in its place: what is wrong with a part, and the cancellation of a
    scope that the generator has open, are raised there.

    Args:
        context: what the service's parts share.
        request: what is answered.
        subject: how the reply subjects of the parts begin, before their numbers; ``""`` if they have none.
        window: how many parts may go beyond those acknowledged; 0 for no limit.
    """

    def __init__(self, context: ServiceContext, request: Request, subject: str, window: int) -> None:
        self.request = request
        self.subject = subject
        self._context = context
        self._window = window
        self._sent = 0
        self._acknowledged = 0
        self._idle_beats = 0
        self._is_left = False
        self._has_credit = ConditionEvent(
            lambda: self._is_left or not self._window or self._sent - self._acknowledged < self._window
        )
        # The generator may hold scopes of its own open at a `yield`. These two stand around all of them from the first step
        # on, for scopes have to be left in the opposite order in which they were entered.
        self._closing = anyio.CancelScope()
        self._waiting = anyio.CancelScope()
        self._is_at_yield = False

    async def run(self, parts: AsyncGenerator[Any, None], encode: Callable[[Any], Any]) -> None:
        """Send what a generator yields, close it, and send the end."""
        is_complete = False
        with self._closing, self._waiting:
            try:
                if self._window:
                    await self.send_status()
                is_complete = await self._send_parts(parts, encode)
            finally:
                await self._close(parts)  # noqa: ASYNC102  # shielded and bounded in there
        request = self.request
        if self._is_left:
            request._failure = request._failure or Failure(FailureCause.REQUESTER_GONE, *REQUESTER_GONE)
        elif is_complete and not request._has_sent_error and not request._has_ended:
            await request._send(b"", None, self._numbered(self._sent + 1))

    async def send_status(self) -> None:
        """Tell a requester that has asked for a window how many parts have been sent so far."""
        self._idle_beats = 0
        await self._context.fast_path._send(
            self.request.reply,
            headers={WINDOW_HEADER: str(self._window)},
            reply=self._numbered(self._sent),
        )

    def is_due(self) -> bool:
        """Whether nothing has been sent since the last but one call, to a requester that expects a status then."""
        self._idle_beats += 1
        return self._idle_beats >= 2 and bool(self._window) and not self._is_left and not self.request._has_ended

    def acknowledge(self, number: int) -> None:
        """Note that the requester has taken all parts up to this one."""
        if number > self._acknowledged:
            self._acknowledged = min(number, self._sent)
            self._has_credit.check()

    def leave(self) -> None:
        """Have the generator end, because the requester takes no more."""
        self._is_left = True
        self._has_credit.check()
        if not self._is_at_yield:
            self._waiting.cancel("the requester is gone")

    def go_on_alone(self) -> None:
        """Have neither acknowledgements nor a window any more, because they cannot be received."""
        self.subject = ""
        self._window = 0
        self._has_credit.check()

    def _numbered(self, number: int) -> str:
        return f"{self.subject}{number}" if self.subject else ""

    async def _send_parts(self, parts: AsyncGenerator[Any, None], encode: Callable[[Any], Any]) -> bool:
        """Send what a generator yields; return whether that is all of it, because the requester has not left before."""
        error: BaseException | None = None
        while not self._is_left:
            self._is_at_yield = False
            try:
                part = await (anext(parts) if error is None else parts.athrow(error))
            except StopAsyncIteration:
                return True
            self._is_at_yield = True
            error = None
            try:
                await self._send(encode(part))
            except Exception as problem:  # of any kind, for codecs and connections raise what they like
                error = problem
            except BaseException as cancellation:
                if not self._is_cancelled_inside():
                    raise
                error = cancellation
        return False

    async def _send(self, part: Any) -> None:
        data = part if type(part) is bytes else reply_from(part, "yield bytes")
        if not data:
            raise ValueError("yield: must not be empty, for an empty part marks the end of a stream; got b''")
        await self._context.turns.checkpoint(len(data))
        await self._has_credit.wait()
        if self._is_left:
            return
        # Counted before it is sent: cancelled while it waits there, it is on its way.
        self._sent += 1
        self._idle_beats = 0
        try:
            await self.request._send(data, None, self._numbered(self._sent))
        except Exception:
            self._sent -= 1
            raise

    def _is_cancelled_inside(self) -> bool:
        """Whether a scope is cancelled that the generator has open at its ``yield``."""
        self._closing.shield = True
        is_cancelled = anyio.current_effective_deadline() == -math.inf
        self._closing.shield = False
        return is_cancelled

    async def _close(self, parts: AsyncGenerator[Any, None]) -> None:
        """End the generator at its ``yield``, so that its ``finally`` may wait."""
        if not self._is_at_yield:
            return
        service = self._context.service
        # Protects the generator's clean-up from the cancellation that has ended the stream, within this bound.
        self._closing.deadline = anyio.current_time() + min(
            MAX_CLOSE_SECONDS, math.inf if service is None else service._grace
        )
        self._closing.shield = True
        try:
            await _close_generator(parts)
        except Exception as error:
            self._context.errors.report(error, self.request.endpoint, traceback=True)
        except BaseException:
            if self._closing.cancel_called:
                late = NatseryError("a generator was closed, and its clean-up was cancelled because it took too long")
                self._context.errors.report(late, self.request.endpoint)
            raise
        finally:
            self._closing.deadline = math.inf
            self._closing.shield = False


async def _close_generator(parts: AsyncGenerator[Any, None]) -> None:
    """Close a generator, which may have a task group open at its ``yield``."""
    try:
        await parts.aclose()
    except BaseExceptionGroup as group:
        # A task group does not let `GeneratorExit` out as it is.
        rest = group.split(GeneratorExit)[1]
        if rest is not None:
            raise rest from None
