"""The queue of an endpoint's requests, and the loop in which its workers handle them."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from .._deadline_header import may_say_time
from .._headers import NO_HEADERS
from .._subjects import LONG_SUBJECT
from ._limits import HOLD_NS, RECENT_REPLIES, REQUESTS_BETWEEN_YIELDS

if TYPE_CHECKING:
    from .._fast_path import FastPath
    from .._service._endpoint import Endpoint
    from .._service._request import Request
    from ._fields import CounterFields, Worker


class EndpointQueue:
    """A bounded queue with up to ``concurrency`` workers, each started when it is first needed.

    A subclass says what is done with requests that cannot be queued or do not end in a plain reply.

    Args:
        endpoint: whose requests these are.
        fast_path: what replies go through.
        counters: where requests that end well are counted.
        clock_ns: the clock for processing times, in nanoseconds.
        checkpoint: lets other tasks run.
        concurrency: the most workers.
        max_messages: requests that may wait.
        max_bytes: bytes that may wait.
        suspicious: the characters that a reply subject may begin with that may not be answered.

    Attributes:
        handler: what handles a request that says no time.
        handler_with_time: what handles one that says how much time there is.
        now: the event loop's clock, in seconds.
    """

    __slots__ = (
        "_checkpoint",
        "_clock_ns",
        "_concurrency",
        "_counters",
        "_endpoint",
        "_fast_path",
        "_idle",
        "_is_congested",
        "_is_cut_off",
        "_is_retired",
        "_max_bytes",
        "_max_messages",
        "_pending",
        "_pending_bytes",
        "_recent_replies",
        "_suspicious",
        "_waking",
        "_with_time",
        "_workers",
        "handler",
        "handler_with_time",
        "now",
    )

    handler: Callable[[Request], Awaitable[bytes | None]]
    handler_with_time: Callable[[Request], Awaitable[bytes | None]]
    now: Callable[[], float]

    def __init__(
        self,
        endpoint: Endpoint,
        fast_path: FastPath,
        counters: CounterFields,
        *,
        clock_ns: Callable[[], int],
        checkpoint: Callable[[], Awaitable[None]],
        concurrency: int,
        max_messages: int,
        max_bytes: int,
        suspicious: frozenset[str],
    ) -> None:
        self._endpoint = endpoint
        self._fast_path = fast_path
        self._counters = counters
        self._clock_ns = clock_ns
        self._checkpoint = checkpoint
        self._concurrency = concurrency
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._suspicious = suspicious
        self._pending: deque[Request] = deque()
        self._pending_bytes: int = 0
        self._with_time: set[Request] = set()  # those among them that say how much time there is
        self._workers: list[Worker] = []
        self._idle: list[Worker] = []
        self._waking: int = 0
        self._is_cut_off: bool = False
        self._is_congested: bool = False
        self._is_retired: bool = False
        self._recent_replies: deque[str] = deque(maxlen=RECENT_REPLIES)

    # What a subclass has

    def _may_answer(self, reply: str) -> bool:
        """Return whether a reply subject that looks suspicious may be answered."""
        raise NotImplementedError

    def _drop_malformed(self, request: Request) -> None:
        """Drop a request whose reply subject may not be answered."""
        raise NotImplementedError

    def _refuse_late(self, request: Request) -> None:
        """Refuse a request because the service has ended."""
        raise NotImplementedError

    def _has_detached(self) -> bool:
        """Return whether any request is detached."""
        raise NotImplementedError

    def _overload(self, request: Request) -> None:
        """Refuse a request for which there is no room."""
        raise NotImplementedError

    def _start_worker(self) -> None:
        """Start a worker, which is counted as woken."""
        raise NotImplementedError

    def _check_drained(self) -> None:
        """Handle that a worker has nothing to do, or has ended."""
        raise NotImplementedError

    async def _send(self, request: Request, result: object) -> None:
        """Send what a handler returned that is not plain ``bytes``, or belongs to a request that has failed."""
        raise NotImplementedError

    def _keep_silent(self, request: Request) -> None:
        """Handle that a handler has returned without having responded."""
        raise NotImplementedError

    async def _end_with_error(self, request: Request, error: Exception, *, is_replying: bool) -> None:
        """End a request whose handler raised, or whose reply the connection did not take."""
        raise NotImplementedError

    async def _end_abruptly(self, request: Request, error: BaseException) -> None:
        """End a request whose handler raised what is no `Exception`; cancellations are raised again."""
        raise NotImplementedError

    def _end_failed(self, request: Request, elapsed_ns: int) -> None:
        """End a request that has failed although its handler returned."""
        raise NotImplementedError

    # Requests in

    def deliver(self, request: Request) -> None:
        """Queue a request and have a worker take it, or refuse it. Called by the connection."""
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
            and not self._may_answer(reply)
        ):
            self._drop_malformed(request)
            return
        if self._is_cut_off:
            self._refuse_late(request)
            return
        pending = self._pending
        size = len(request.data)
        if request.headers is not NO_HEADERS:
            size += request.headers._wire_size
            if may_say_time(request.headers):
                request._arrived = self.now()
                self._with_time.add(request)
        # A worker that has been woken is about to take a request, so that one does not wait any more.
        waiting = len(pending) - self._waking
        if waiting >= self._max_messages or (
            self._pending_bytes + size > self._max_bytes and (waiting > 0 or self._has_detached())
        ):
            self._with_time.discard(request)
            self._overload(request)
            return
        pending.append(request)
        self._pending_bytes += size
        if self._idle:
            self._waking += 1
            self._idle.pop().wakeup.set()
        elif len(self._workers) < self._concurrency:
            self._start_worker()

    # The drain loop

    async def work(self, worker: Worker) -> None:
        """Handle requests until the queue is retired, or until cancelled."""
        endpoint = self._endpoint
        pending = self._pending
        counters = self._counters
        fast_path = self._fast_path
        held = fast_path._held
        handler, handler_with_time, with_time = self.handler, self.handler_with_time, self._with_time
        clock_ns = self._clock_ns
        recent_replies = self._recent_replies
        # `unyielded`: requests since other tasks had their turn; `now`: the end of the last request, if it is the beginning of
        # the next.
        unyielded = now = 0
        failed: BaseException | None = None
        self._waking -= 1
        try:
            while True:
                if not pending:
                    if self._is_retired:
                        return
                    _push_if_due(fast_path, now)
                    self._is_congested = False
                    self._idle.append(worker)
                    self._check_drained()
                    await worker.wakeup.wait()
                    self._waking -= 1
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
                if not held.since:
                    held.since = begun
                elif begun - held.since > HOLD_NS:
                    fast_path._push_answers()
                    held.since = begun
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
                        if not fast_path._answer_nowait(reply, result):
                            await fast_path._send(reply, result)
                    elif result is not None:
                        await self._send(request, result)
                    elif not request._has_responded and not request._is_released:
                        self._keep_silent(request)
                except BaseException as error:  # noqa: ASYNC103  # cancellations are raised again below
                    failed = error
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
                            self._end_failed(request, now - begun)
                if failed is not None:
                    if isinstance(failed, Exception):
                        await self._end_with_error(request, failed, is_replying=is_replying)
                    else:
                        await self._end_abruptly(request, failed)
                    failed = None
                    now = clock_ns()
                worker.request = None
                unyielded += 1
                if unyielded >= REQUESTS_BETWEEN_YIELDS:
                    unyielded = now = 0
                    await self._checkpoint()
        finally:
            failed = None  # whose traceback has this frame
            self._workers.remove(worker)
            if worker in self._idle:
                self._idle.remove(worker)
            self._check_drained()


def _push_if_due(fast_path: FastPath, now: int) -> None:
    """Send the answers that have waited for too long: other workers may compute before this one handles a request again."""
    held = fast_path._held
    if held.since and now - held.since > HOLD_NS:
        fast_path._push_answers()
        held.since = now
