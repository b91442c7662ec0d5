"""The requests that an endpoint has accepted, and the workers that handle them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, final

from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from .._adr32 import INTERNAL_ERROR, OVERLOADED
from .._condition_event import ConditionEvent
from .._core import EndpointQueue, Worker
from .._errors import EndpointOverloadedError, PublishDeniedError, ServiceStoppedError
from .._handlers import Handler
from .._service_config import PlacedEndpoint
from .._statistics import Counters, Failure, FailureCause
from ._as_handler import as_handler
from ._detached_request import DetachedRequest
from ._endings import Endings, find_reply
from ._gate import Gate, is_timed
from ._invoke import compose, reply_from
from ._observer import Observer
from ._request import Request

if TYPE_CHECKING:
    from ._context import ServiceContext
    from ._endpoint import Endpoint


@final
class RequestQueue(EndpointQueue):
    """A bounded queue with up to ``concurrency`` workers, each started when it is first needed.

    Args:
        context: what the service's parts share.
        endpoint: whose requests these are.
        placed: how they are handled.
        counters: where they are counted.

    Attributes:
        endings: what ends the requests.
    """

    __slots__ = (
        "_context",
        "_detached",
        "_drained",
        "_is_gated",
        "_is_timed",
        "_placed",
        "_tasks",
        "_wakeups",
        "endings",
    )

    def __init__(self, context: ServiceContext, endpoint: Endpoint, placed: PlacedEndpoint, counters: Counters) -> None:
        limits, service_config = placed.limits, context.config
        super().__init__(
            endpoint,
            context.fast_path,
            counters,
            clock_ns=context.clock_ns,
            checkpoint=checkpoint,
            concurrency=limits.concurrency or 1,
            max_messages=limits.pending_messages or service_config.pending_messages,
            max_bytes=limits.pending_bytes or service_config.pending_bytes,
            suspicious=context.suspicious_replies,
        )
        self._context = context
        self._placed = placed
        self.endings: Endings = Endings(context, endpoint, counters)
        self._tasks: TaskGroup | None = None
        self._detached: dict[Request, int] = {}  # in order, with their sizes
        self._drained: ConditionEvent | None = None  # made for the first that waits, which most never have
        self._is_gated = False

    @property
    def pending(self) -> int:
        """Requests that are waiting, being handled or detached."""
        return len(self._pending) + self.in_flight

    @property
    def in_flight(self) -> int:
        """Requests that are being handled or detached. May be read in another thread, where it is an estimate."""
        in_hand = [request for worker in tuple(self._workers) if (request := worker.request) is not None]
        return sum(not request._is_released for request in in_hand) + len(self._detached)

    def open(self, tasks: TaskGroup, now: Callable[[], float]) -> None:
        """Run workers in this task group from now on.

        Args:
            tasks: the task group.
            now: the event loop's clock, in seconds.
        """
        self._tasks = tasks
        # Chosen here, for `deliver` may be called where anyio does not know its event loop.
        self._wakeups = self._fast_path._wakeups()
        self.now = now
        instruments, limits = self._context.instruments, self._placed.limits
        if instruments is not None:
            self.endings.observer = Observer(self._endpoint, instruments, now)
        self._is_timed = instruments is not None or is_timed(limits)
        self.handler = compose(as_handler(self._placed, self._context.config.codec), tuple(limits.middlewares))

    def _gate(self) -> None:
        """Put the handler behind its gate: for the first worker, because most of many endpoints may never have one."""
        limits = self._placed.limits
        is_whole = self._context.instruments is not None or limits.limiter is not None
        gate = Gate(limits, self.now, self._to_its_end if is_whole else _keep)
        handler = self.handler
        self.handler, self.handler_with_time = gate.around_plain(handler), gate.around(handler)
        self._is_gated = True

    async def wait_drained(self) -> None:
        """Wait until no request is waiting, being handled or detached. Not a checkpoint if there is none."""
        if self._is_at_rest():
            return
        if self._drained is None:
            self._drained = ConditionEvent(self._is_at_rest)
        await self._drained.wait()

    def _is_at_rest(self) -> bool:
        return not self._pending and len(self._idle) >= len(self._workers) and not self._detached

    def cut_off(self) -> None:
        """Answer everything that is not finished with 503, and accept nothing more."""
        self._is_cut_off = True
        for worker in self._workers:
            if worker.request is not None and not worker.request._is_released:
                self.endings.cut_off(worker.request, self._context.clock_ns() - worker.request._begun)
        for request in list(self._detached):
            self._forget_detached(request)
            self.endings.cut_off(request, self._context.clock_ns() - request._begun)
        while self._pending:
            self.endings.cut_off(self._pending.popleft())
        self._with_time.clear()

    def retire(self) -> None:
        """Let the idle workers end."""
        self._is_retired = True
        while self._idle:
            self._waking += 1
            self._idle.pop().wakeup.set()

    def take_denial(self, error: PublishDeniedError) -> bool:
        """Count the request as failed whose reply the server did not let through, if there is one here."""
        failure = Failure(FailureCause.UNDELIVERABLE, 500, str(error))
        reply = find_reply(self._recent_replies, error)
        if reply is not None:
            self._recent_replies.remove(reply)
            self.endings.turn_into_failure(reply, failure, error)
            return True
        in_hand = [worker.request for worker in self._workers if worker.request is not None]
        for request in (*in_hand, *self._detached):
            if request._has_responded and error.concerns(request.reply):
                request._failure = request._failure or failure
                self._context.streams.give_up(request)
                return True
        return False

    # Requests in

    @property
    def intake(self) -> Callable[[Request], None]:
        """What the connection calls with each request."""
        return self._deliver_timed if self._is_timed else self.deliver

    def _deliver_timed(self, request: Request) -> None:
        """Accept a request, or refuse it, where it matters when it came."""
        request._arrived = self.now()
        self.deliver(request)

    def _may_answer(self, reply: str) -> bool:
        return self._context.may_answer(reply, tuple(f"{prefix}." for prefix in self._placed.config.reply_prefixes))

    def _drop_malformed(self, request: Request) -> None:
        self.endings.drop_malformed(request, f"its reply subject {request.reply!r:.200} may not be answered")

    def _refuse_late(self, request: Request) -> None:
        self.endings.cut_off(request)

    def _has_detached(self) -> bool:
        return bool(self._detached)

    def _overload(self, request: Request) -> None:
        if not self._is_congested:
            self._is_congested = True
            full = f"{len(self._pending) + len(self._detached)} requests of {self._pending_bytes} bytes are waiting"
            self._context.errors.report(EndpointOverloadedError(self._endpoint.name, full), self._endpoint, request)
        self.endings.refuse(request, Failure(FailureCause.OVERLOADED, *OVERLOADED))

    # Detached requests

    def detach(self, request: Request) -> DetachedRequest:
        """Keep a request that is being handled open after its handler has returned."""
        if self._placed.config._read_signature().is_stream:
            raise RuntimeError(
                "a request with a streamed reply cannot be detached; yield what it is to be answered with"
            )
        if request._has_ended:
            raise ServiceStoppedError("the request has ended: its handler returned, ran out of time or was cut off")
        if request in self._detached:
            raise RuntimeError("the request is detached already")
        request._is_released = True
        self._detached[request] = size = request._size  # whoever has it may change it
        self._max_messages -= 1  # it goes on counting as one that waits
        self._pending_bytes += size
        return DetachedRequest(request, self._end_detached)

    async def _end_detached(self, request: Request, error: BaseException | None) -> bool:
        """End a detached request; return whether that has dealt with the error that left its block."""
        elapsed = self._context.clock_ns() - request._begun
        self._forget_detached(request)
        if isinstance(error, Exception):
            await self.endings.answer(request, error, elapsed)
        elif request._has_ended:
            pass  # cut off, and answered then
        elif error is not None:
            # The task that was to answer it is cancelled, or ends the program.
            self.endings.refuse(request, Failure(FailureCause.EXCEPTION, *INTERNAL_ERROR), elapsed)
        elif request._failure is not None:
            self.endings.end(request, request._failure, elapsed)
        else:
            self._end_well(request, elapsed)
        return isinstance(error, Exception)

    def _end_well(self, request: Request, elapsed_ns: int) -> None:
        self.endings.end_well(request, elapsed_ns)
        self._recent_replies.append(request.reply)

    def _forget_detached(self, request: Request) -> None:
        size = self._detached.pop(request, None)
        if size is not None:
            self._max_messages += 1
            self._pending_bytes -= size
            self._check_drained()

    # What is switched on

    def _to_its_end(self, handler: Handler) -> Handler:
        """Return what handles a request to its end, as ``_work`` does, and tells of it; of failures ``Endings`` tells."""
        clock_ns, observer = self._context.clock_ns, self.endings.observer
        no_contexts = nullcontext()

        async def handle(request: Request) -> None:
            request._begun = begun = clock_ns()  # what it had to pass before does not count
            with no_contexts if observer is None else observer.start(request):
                result = await handler(request)
            if request._has_ended:
                return  # cut off while it shielded itself
            if result is not None:
                await request._send(reply_from(result), None)
            elif not request._has_responded and not request._is_released:
                self.endings.report_silence_by_mistake(request)
            if request._failure is None and not request._is_released:
                self._end_well(request, clock_ns() - begun)

        return handle

    # Workers

    def _start_worker(self) -> None:
        assert self._tasks is not None
        if not self._is_gated:
            self._gate()
        worker = Worker(self._wakeups.new_wakeup())
        self._workers.append(worker)
        self._waking += 1
        self._tasks.start_soon(self._work, worker, self._endpoint, name=f"natsery endpoint {self._endpoint.name}")

    async def _work(self, worker: Worker, endpoint: Endpoint) -> None:  # noqa: ARG002  # see below
        # A compiled loop has no frame: whoever looks at the stack finds in this one which endpoint's handler is running.
        await self._wakeups.run(self.work(worker), worker.wakeup)

    def _check_drained(self) -> None:
        if self._drained is not None:
            self._drained.check()

    # Requests out

    async def _send(self, request: Request, result: object) -> None:
        await request._send(reply_from(result), None)

    def _keep_silent(self, request: Request) -> None:
        self.endings.report_silence_by_mistake(request)

    async def _end_with_error(self, request: Request, error: Exception, *, is_replying: bool) -> None:
        if is_replying:
            request._note_undelivered(error)
        self._forget_detached(request)
        await self.endings.answer(request, error, self._clock_ns() - request._begun)

    async def _end_abruptly(self, request: Request, error: BaseException) -> None:
        self._forget_detached(request)
        await self.endings.end_abruptly(request, error, self._clock_ns() - request._begun)

    def _end_failed(self, request: Request, elapsed_ns: int) -> None:
        assert request._failure is not None
        self.endings.end(request, request._failure, elapsed_ns)


def _keep(handler: Handler) -> Handler:
    return handler
