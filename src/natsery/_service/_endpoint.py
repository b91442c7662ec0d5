"""One endpoint at work: its bounded queue, its workers, and its books."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast, final

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from .._adr32 import (
    OVERLOADED,
    STOPPING,
    forbidden_reply_prefixes,
    is_answerable,
)
from .._config import PlacedEndpoint
from .._errors import (
    EndpointOverloadedError,
    MalformedRequestError,
    NatseryError,
    PublishDeniedError,
    SlowConsumerError,
    SubscriptionDeniedError,
)
from .._fast_path import FastSubscription, Interest
from .._message import Deliver
from .._responses import EndpointInfo, EndpointStats
from .._statistics import Counters, FailureCause
from .._wakeup import Wakeup, wakeup_class
from ._error_replies import Failures
from ._invoke import compose, within
from ._request import Request, as_bytes

if TYPE_CHECKING:
    from ._service import Service

RECENT_REPLIES = 1_024
"""Good replies that are remembered in case the server denies publishing them; a denial that comes later is not counted."""

REQUESTS_BETWEEN_YIELDS = 256
"""Requests that a worker handles without waiting before it lets other tasks run."""


@final
class _Worker:
    """One task of an endpoint, and the request in its hands."""

    __slots__ = ("begun", "request", "wakeup")

    def __init__(self, wakeup: Wakeup) -> None:
        self.wakeup = wakeup
        self.request: Request | None = None
        self.begun = 0


@final
class Endpoint:
    """An endpoint of a running service; made by ``serve`` and ``add_endpoint``."""

    def __init__(self, service: Service, placed: PlacedEndpoint) -> None:
        config = placed.config
        self._service = service
        self._connection = service._connection
        self._fast_path = service._fast_path
        self._reports = service._reports
        self._placed = placed
        self._handler = compose(config.handler, (*service.config.middlewares, *config.middlewares))
        self._concurrency = config.concurrency
        self._clock_ns = service.config.clock.monotonic_ns
        self._max_messages = config.pending_messages or service.config.pending_messages
        self._max_bytes = config.pending_bytes or service.config.pending_bytes
        self._forbidden = forbidden_reply_prefixes(service.config.prefix)
        self._suspicious = {".", *(prefix[0] for prefix in self._forbidden)}
        self._new_wakeup = wakeup_class()
        self._counters = Counters()
        self._failures = Failures(service, self, self._counters)
        self._pending: deque[Request] = deque()
        self._pending_bytes = 0
        self._workers: list[_Worker] = []
        self._idle: list[_Worker] = []
        self._waking = 0
        self._tasks: TaskGroup | None = None
        self._subscription: FastSubscription | None = None
        self._denied: NatseryError | None = None
        self._is_live = False
        self._is_retired = False
        self._is_cut_off = False
        self._is_congested = False
        self._dropped = 0
        self._recent_replies: deque[str] = deque(maxlen=RECENT_REPLIES)
        self._drained: anyio.Event | None = None

    @property
    def name(self) -> str:
        """The name that discovery shows."""
        return self._placed.config.name

    @property
    def subject(self) -> str:
        """The whole subject, its groups' prefixes included."""
        return self._placed.subject

    @property
    def queue_group(self) -> str:
        """The queue group, ``""`` for none."""
        return self._placed.queue_group

    @property
    def metadata(self) -> Mapping[str, str]:
        """What discovery shows besides, read-only."""
        return self._placed.config.metadata

    @property
    def pending(self) -> int:
        """Requests that it has accepted and not finished yet: those that wait, and those that its handler has in hand."""
        in_hand = [worker.request for worker in self._workers if worker.request is not None]
        return len(self._pending) + sum(not request._has_ended for request in in_hand)

    def stats(self) -> EndpointStats:
        """A frozen copy of what this endpoint has counted, without the stats handler's data."""
        return self._counters.snapshot(self.name, self.subject, self.queue_group)

    async def remove(self) -> None:
        """Take this endpoint alone out of the service: unsubscribe, finish what was accepted, forget it.

        Returns when its last request has been answered; callers own the deadline. Safe twice.

        **Cancellation:** it takes no new requests any more; those accepted are still handled while the service lasts, and
        discovery still lists it. Call again to finish. A checkpoint.
        """
        await checkpoint()
        await self._unsubscribe()
        if self._connection.is_connected:
            await self._connection.flush()
        await self._wait_drained()
        self._retire()
        self._service._forget(self)

    # What the service does with it

    def _info(self) -> EndpointInfo:
        return EndpointInfo(name=self.name, subject=self.subject, queue_group=self.queue_group, metadata=self.metadata)

    def _stats_with(self, data: Any) -> EndpointStats:
        return self._counters.snapshot(self.name, self.subject, self.queue_group, data)

    async def _subscribe(self, tasks: TaskGroup) -> None:
        self._tasks = tasks
        self._subscription = await self._fast_path._subscribe(
            Interest(
                self.subject, self.queue_group, cast("Deliver", self._deliver), self._on_subscription_error, Request
            )
        )

    def _go_live(self) -> None:
        """The server has accepted the subscription, or what it said against it is raised."""
        if self._denied is not None:
            raise self._denied
        self._is_live = True

    async def _unsubscribe(self) -> None:
        if self._subscription is not None:
            await self._subscription._unsubscribe()

    async def _wait_drained(self) -> None:
        """Wait until nothing is queued or in a worker's hands."""
        while self._pending or len(self._idle) < len(self._workers):
            if self._drained is None:
                self._drained = anyio.Event()
            await self._drained.wait()

    def _cut_off(self) -> None:
        """Answer everything that is not finished with 503, and take nothing more."""
        self._is_cut_off = True
        for worker in self._workers:
            if worker.request is not None and not worker.request._has_ended:
                self._failures.cut_off(worker.request, self._clock_ns() - worker.begun)
        while self._pending:
            self._refuse(self._pending.popleft(), FailureCause.STOPPING, STOPPING)
        self._pending_bytes = 0

    def _take_denial(self, error: PublishDeniedError) -> bool:
        """Count the request whose reply the server did not let through as failed; false if it is none of this endpoint's."""
        subject = error.subject.lower()  # nats-py hands the server's text on in lower case
        failure = (FailureCause.UNDELIVERABLE, 500, str(error))
        for reply in self._recent_replies:
            if reply.lower() == subject:
                self._recent_replies.remove(reply)
                self._counters.turn_into_failure(*failure)
                return True
        for worker in self._workers:
            request = worker.request
            if request is not None and request._has_responded and request.reply.lower() == subject:
                request._failure = request._failure or failure
                return True
        return False

    def _retire(self) -> None:
        """Let the idle workers end."""
        self._is_retired = True
        while self._idle:
            self._waking += 1
            self._idle.pop().wakeup.set()

    # Messages in

    def _deliver(self, request: Request) -> None:
        reply = request.reply
        if self._is_cut_off:
            self._refuse(request, FailureCause.STOPPING, STOPPING)
            return
        # The look in the middle is `is_answerable`'s, but quicker: it lets nothing pass that that one refuses.
        if (
            reply
            and (reply[0] in self._suspicious or reply[-1] == "." or "*" in reply or ">" in reply or ".." in reply)
            and not is_answerable(reply, self._forbidden)
        ):
            self._counters.malformed += 1
            self._reports.report(
                MalformedRequestError(request.subject, f"its reply subject {reply!r:.200} may not be answered"), self
            )
            return
        pending = self._pending
        size = len(request.data)
        # A worker that has been woken is about to take a message, so that one does not wait any more.
        waiting = len(pending) - self._waking
        if waiting >= self._max_messages or (waiting > 0 and self._pending_bytes + size > self._max_bytes):
            self._overload(request)
            return
        pending.append(request)
        self._pending_bytes += size
        if self._idle:
            self._waking += 1
            self._idle.pop().wakeup.set()
        elif len(self._workers) < self._concurrency:
            self._start_worker()

    def _start_worker(self) -> None:
        assert self._tasks is not None
        worker = _Worker(self._new_wakeup())
        self._workers.append(worker)
        self._waking += 1
        self._tasks.start_soon(self._work, worker, name=f"natsery endpoint {self.name}")

    def _overload(self, request: Request) -> None:
        if not self._is_congested:
            self._is_congested = True
            full = f"{len(self._pending)} requests of {self._pending_bytes} bytes are waiting"
            self._reports.report(EndpointOverloadedError(self.name, full), self)
        self._refuse(request, FailureCause.OVERLOADED, OVERLOADED)

    def _refuse(self, request: Request, cause: FailureCause, answer: tuple[int, str]) -> None:
        self._counters.count_failure(cause, *answer)
        self._service._refusals.refuse(request.reply, answer)

    def _on_subscription_error(self, error: NatseryError) -> None:
        if isinstance(error, SlowConsumerError):
            # Lost between the connection and this loop: nobody knows their reply subjects any more.
            for _ in range(error.dropped - self._dropped):
                self._counters.count_failure(FailureCause.UNDELIVERABLE, 503, "Slow Consumer")
            self._dropped = error.dropped
            self._reports.report(error, self)
            return
        if isinstance(error, SubscriptionDeniedError):
            error = SubscriptionDeniedError(error.subject, error.queue_group, endpoint=self.name)
        if self._is_live:
            self._service._lose(error, self)
        else:
            self._denied = error

    # Workers

    async def _work(self, worker: _Worker) -> None:
        pending = self._pending
        counters = self._counters
        connection = self._fast_path
        answer_nowait = connection._answer_nowait
        handler = self._handler
        clock_ns = self._clock_ns
        timeout = self._placed.config.timeout
        recent_replies = self._recent_replies
        failures = self._failures
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
                self._pending_bytes -= len(request.data)
                request.endpoint = self
                reply = request.reply  # a handler may change the request's
                worker.request = request
                worker.begun = begun = now or clock_ns()
                now = 0
                is_replying = False
                try:
                    if timeout is None:
                        result = await handler(request)
                    else:
                        result = await within(timeout, handler, request)
                    if request._has_ended:
                        pass  # cut off while it shielded itself, and answered then
                    elif type(result) is bytes and reply and request._failure is None:
                        # What `request._send` does, the fast way: this is how nearly every request ends.
                        is_replying = request._has_responded = True
                        if not answer_nowait(reply, result):
                            await connection._send(reply, result)
                    elif result is not None:
                        await request._send(as_bytes(result), None)
                    elif not request._has_responded and reply:
                        await request._send(b"", None)
                except Exception as error:
                    if is_replying:
                        request._has_responded = False
                        request._note_undelivered(error)
                    await failures.answer(request, error, clock_ns() - begun)
                except BaseException as error:  # noqa: ASYNC103  # cancellations are raised again in there
                    await failures.end_abruptly(request, error, clock_ns() - begun)  # noqa: ASYNC102
                else:
                    if not request._has_ended:
                        request._has_ended = True
                        now = clock_ns()
                        if request._failure is None:
                            counters.num_requests += 1
                            counters.processing_time += now - begun
                            recent_replies.append(reply)
                        else:
                            counters.count_failure(*request._failure, now - begun)
                worker.request = None
                unyielded += 1
                if unyielded >= REQUESTS_BETWEEN_YIELDS:
                    unyielded = now = 0
                    await checkpoint()
        finally:
            self._workers.remove(worker)
            if worker in self._idle:
                self._idle.remove(worker)
            self._tell_if_drained()

    async def _rest(self, worker: _Worker) -> None:
        self._idle.append(worker)
        self._tell_if_drained()
        await worker.wakeup.wait()
        self._waking -= 1

    def _tell_if_drained(self) -> None:
        if self._drained is not None and not self._pending and len(self._idle) >= len(self._workers):
            self._drained.set()
            self._drained = None
