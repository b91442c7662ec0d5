"""The requests that an endpoint has accepted, and the workers that handle them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, final

from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from .._adr32 import INTERNAL_ERROR, OVERLOADED
from .._condition_event import ConditionEvent
from .._deadline_header import may_say_time
from .._errors import EndpointOverloadedError, ServiceStoppedError
from .._handlers import Handler
from .._headers import NO_HEADERS
from .._running_loop import loop_clock
from .._service_config import PlacedEndpoint
from .._statistics import Counters, Failure, FailureCause
from .._subjects import LONG_SUBJECT
from .._wakeup import Wakeup, wakeup_class
from ._as_handler import as_handler
from ._detached_request import DetachedRequest
from ._endings import Endings
from ._gate import Gate
from ._invoke import compose, reply_from
from ._observer import Observer
from ._request import Request

if TYPE_CHECKING:
    from ._context import ServiceContext
    from ._endpoint import Endpoint

RECENT_REPLIES = 1_024
"""Good replies that are remembered in case the server denies publishing them; a denial that comes later is not counted."""

REQUESTS_BETWEEN_YIELDS = 256
"""Requests that a worker handles without waiting before it lets other tasks run."""


@final
class Worker:
    """One task of an endpoint, and the request that it is handling."""

    __slots__ = ("request", "wakeup")

    def __init__(self, wakeup: Wakeup) -> None:
        self.wakeup = wakeup
        self.request: Request | None = None


@final
class RequestQueue:
    """A bounded queue with up to ``concurrency`` workers, each started when it is first needed.

    Args:
        context: what the service's parts share.
        endpoint: whose requests these are.
        placed: how they are handled.
        counters: where they are counted.

    Attributes:
        endings: what ends the requests.
    """

    def __init__(self, context: ServiceContext, endpoint: Endpoint, placed: PlacedEndpoint, counters: Counters) -> None:
        limits, service_config = placed.limits, context.config
        self._context = context
        self._endpoint = endpoint
        self._counters = counters
        self.endings: Endings = Endings(context, endpoint, counters)
        self._placed = placed
        self._handler = compose(as_handler(placed, service_config.codec), tuple(limits.middlewares))
        self._concurrency = limits.concurrency or 1
        self._max_messages = limits.pending_messages or service_config.pending_messages
        self._max_bytes = limits.pending_bytes or service_config.pending_bytes
        self._reply_prefixes = tuple(f"{prefix}." for prefix in placed.config.reply_prefixes)
        self._suspicious = {".", *(prefix[0] for prefix in context.forbidden_replies)}
        self._pending: deque[Request] = deque()
        self._pending_bytes = 0
        self._with_time: set[Request] = set()  # those among them that say how much time there is
        self._tasks: TaskGroup | None = None
        self._workers: list[Worker] = []
        self._idle: list[Worker] = []
        self._waking = 0
        self._is_retired = False
        self._is_cut_off = False
        self._is_congested = False
        self._recent_replies: deque[str] = deque(maxlen=RECENT_REPLIES)
        self._detached: dict[Request, None] = {}  # in order
        self._drained = ConditionEvent(
            lambda: not self._pending and len(self._idle) >= len(self._workers) and not self._detached
        )

    @property
    def pending(self) -> int:
        """Requests that are waiting, being handled or detached."""
        return len(self._pending) + self.in_flight

    @property
    def in_flight(self) -> int:
        """Requests that are being handled or detached. May be read in another thread, where it is an estimate."""
        in_hand = [request for worker in tuple(self._workers) if (request := worker.request) is not None]
        return sum(not request._is_released for request in in_hand) + len(self._detached)

    def open(self, tasks: TaskGroup) -> None:
        """Run workers in this task group from now on."""
        self._tasks = tasks
        # Chosen here, for `deliver` may be called where anyio does not know its event loop.
        self._new_wakeup = wakeup_class()
        self._now = loop_clock()
        instruments = self._context.instruments
        if instruments is not None:
            self.endings.observer = Observer(self._endpoint, instruments, self._now)
        limits = self._placed.limits
        is_whole = instruments is not None or limits.limiter is not None
        gate = Gate(limits, self._now, self._to_its_end if is_whole else lambda handler: handler)
        self._is_timed = gate.is_timed or instruments is not None
        handler = self._handler
        self._handler = gate.around_plain(handler)
        self._handler_with_time = gate.around(handler)

    async def wait_drained(self) -> None:
        """Wait until no request is waiting, being handled or detached. Not a checkpoint if there is none."""
        await self._drained.wait()

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
        self._pending_bytes = 0

    def retire(self) -> None:
        """Let the idle workers end."""
        self._is_retired = True
        while self._idle:
            self._waking += 1
            self._idle.pop().wakeup.set()

    def take_denial(self, subject: str, failure: Failure) -> bool:
        """Count the request as failed whose reply to ``subject`` the server did not let through, if there is one here."""
        # nats-py passes the server's text on in lower case, where the exact text is not found.
        lowered = subject.lower()
        recent = self._recent_replies
        reply = subject if subject in recent else None
        if reply is None and subject == lowered:
            reply = next((each for each in recent if each.lower() == lowered), None)
        if reply is not None:
            recent.remove(reply)
            self._counters.turn_into_failure(failure)
            return True
        in_hand = [worker.request for worker in self._workers if worker.request is not None]
        for request in (*in_hand, *self._detached):
            if request._has_responded and request.reply.lower() == lowered:
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
        request._arrived = self._now()
        self.deliver(request)

    def deliver(self, request: Request) -> None:
        """Accept a request, or refuse it. Called by the connection."""
        reply = request.reply
        # The first condition is `is_answerable`'s, but quicker: it lets nothing pass that that one refuses.
        if (
            reply
            and (
                reply[0] in self._suspicious
                or reply[-1] == "."
                or "*" in reply
                or ">" in reply
                or ".." in reply
                or len(reply) > LONG_SUBJECT
            )
            and not self._context.may_answer(reply, self._reply_prefixes)
        ):
            self.endings.drop_malformed(request, f"its reply subject {reply!r:.200} may not be answered")
            return
        if self._is_cut_off:
            self.endings.cut_off(request)
            return
        pending = self._pending
        size = len(request.data)
        if request.headers is not NO_HEADERS:
            size += request.headers._wire_size
            if may_say_time(request.headers):
                request._arrived = self._now()
                self._with_time.add(request)
        # A worker that has been woken is about to take a request, so that one does not wait any more.
        waiting = len(pending) - self._waking
        if waiting >= self._max_messages or (
            self._pending_bytes + size > self._max_bytes and (waiting > 0 or self._detached)
        ):
            self._overload(request)
            return
        pending.append(request)
        self._pending_bytes += size
        if self._idle:
            self._waking += 1
            self._idle.pop().wakeup.set()
        elif len(self._workers) < self._concurrency:
            self._start_worker()

    def _overload(self, request: Request) -> None:
        self._with_time.discard(request)
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
        self._detached[request] = None
        self._max_messages -= 1  # it goes on counting as one that waits
        self._pending_bytes += request._size
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
        if request in self._detached:
            del self._detached[request]
            self._max_messages += 1
            self._pending_bytes -= request._size
            self._drained.check()

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
        worker = Worker(self._new_wakeup())
        self._workers.append(worker)
        self._waking += 1
        self._tasks.start_soon(self._work, worker, name=f"natsery endpoint {self._endpoint.name}")

    async def _work(self, worker: Worker) -> None:
        """Handle requests until the queue is retired, or until cancelled."""
        endpoint = self._endpoint
        pending = self._pending
        counters = self._counters
        fast_path = self._context.fast_path
        answer_nowait = fast_path._answer_nowait
        handler, handler_with_time, with_time = self._handler, self._handler_with_time, self._with_time
        clock_ns = self._context.clock_ns
        recent_replies = self._recent_replies
        endings = self.endings
        unyielded = 0
        now = 0  # the end of the last request, if it is the beginning of the next
        self._waking -= 1
        try:
            while True:
                if not pending:
                    if self._is_retired:
                        return
                    self._is_congested = False
                    await self._rest(worker)
                    unyielded = now = 0
                    continue
                request = pending.popleft()
                # Their `_wire_size`, which is known since the delivery.
                headers_size = request.headers._size
                self._pending_bytes -= len(request.data) + headers_size
                request.endpoint = endpoint
                reply = request.reply  # a handler may change the request's
                worker.request = request
                request._begun = begun = now or clock_ns()
                now = 0
                is_replying = False
                try:
                    if headers_size and request in with_time:
                        with_time.remove(request)
                        result = await handler_with_time(request)
                    else:
                        result = await handler(request)
                    if request._has_ended:
                        pass  # cut off while it shielded itself, and answered then
                    elif type(result) is bytes and reply and request._failure is None:
                        # `Request._send`, written out: this is how nearly every request ends.
                        is_replying = request._has_responded = True
                        if not answer_nowait(reply, result):
                            await fast_path._send(reply, result)
                    elif result is not None:
                        await request._send(reply_from(result), None)
                    elif not request._has_responded and not request._is_released:
                        endings.report_silence_by_mistake(request)
                except Exception as error:
                    if is_replying:
                        request._has_responded = False
                        request._note_undelivered(error)
                    self._forget_detached(request)
                    await endings.answer(request, error, clock_ns() - request._begun)
                except BaseException as error:  # noqa: ASYNC103  # cancellations are raised again in there
                    self._forget_detached(request)
                    await endings.end_abruptly(request, error, clock_ns() - request._begun)  # noqa: ASYNC102
                else:
                    if not request._is_released:
                        now = clock_ns()
                        if request._failure is None:
                            # `Counters.count_good`, written out.
                            request._has_ended = True
                            counters.num_requests += 1
                            counters.processing_time += now - begun
                            recent_replies.append(reply)
                        else:
                            endings.end(request, request._failure, now - begun)
                worker.request = None
                unyielded += 1
                if unyielded >= REQUESTS_BETWEEN_YIELDS:
                    unyielded = now = 0
                    await checkpoint()
        finally:
            self._workers.remove(worker)
            if worker in self._idle:
                self._idle.remove(worker)
            self._drained.check()

    async def _rest(self, worker: Worker) -> None:
        """Wait for a request."""
        self._idle.append(worker)
        self._drained.check()
        await worker.wakeup.wait()
        self._waking -= 1
