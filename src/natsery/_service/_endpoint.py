"""An endpoint of a running service."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast, final

from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from .._errors import NatseryError, PublishDeniedError, SlowConsumerError, SubscriptionDeniedError
from .._fast_path import FastSubscription, Interest, settle
from .._home import Home
from .._message import Deliver
from .._responses import DETAILS_KEY, EndpointInfo, EndpointStats
from .._schemas import DIGEST_KEY, EndpointSchema
from .._service_config import PlacedEndpoint
from .._statistics import Counters, Failure, FailureCause
from .._turns import Turns
from ._request import Request
from ._request_queue import RequestQueue

if TYPE_CHECKING:
    from ._context import ServiceContext
    from ._service import Service


@final
class Endpoint:
    """An endpoint of a running service; made by ``serve`` and ``add_endpoint``."""

    def __init__(self, context: ServiceContext, placed: PlacedEndpoint) -> None:
        self._context = context
        self._placed = placed
        self._metadata = _metadata_of(placed)
        self._turns = Turns(Home(is_for_threads=True)) if placed.config.in_thread else context.turns
        self._counters = Counters()
        self._queue = RequestQueue(context, self, placed, self._counters)
        self._subscription: FastSubscription | None = None
        self._denied: NatseryError | None = None
        self._is_live = False
        self._dropped = 0

    @property
    def service(self) -> Service:
        """The service that it belongs to.

        Raises:
            RuntimeError: it was made for a test, without a service.
        """
        service = self._context.service
        if service is None:
            raise RuntimeError("the endpoint of a request that was made for a test has no service")
        return service

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
        return self._metadata

    @property
    def pending(self) -> int:
        """How many requests it has accepted and not finished yet, those that wait and those that are being handled."""
        return self._queue.pending

    @property
    def in_flight(self) -> int:
        """Those of ``pending`` that do not wait: requests that its handlers have in hand, detached ones included."""
        return self._queue.in_flight

    def stats(self) -> EndpointStats:
        """Return a frozen copy of what this endpoint has counted, without the stats handler's data."""
        return self._counters.snapshot(self.name, self.subject, self.queue_group)

    async def remove(self) -> None:
        """Take this endpoint alone out of the service: unsubscribe, finish what was accepted, forget it.

        Returns when its last request has been answered; callers own the deadline. Safe twice. Not to be awaited by one of its
        own handlers, whose request it would wait for.

        Raises:
            ConnectionClosedError: the connection is closed meanwhile.

        **Cancellation:** it takes no new requests any more; those accepted are still handled while the service lasts, and
        discovery still lists it. Call again to finish. A checkpoint.
        """
        await checkpoint()
        await self._unsubscribe()
        if self._context.fast_path._may_deliver:
            await settle(self._context.connection)
        await self._queue.wait_drained()
        self._queue.retire()
        self.service._forget(self)

    # What the service does with it

    @property
    def _schema(self) -> EndpointSchema | None:
        return self._placed.schema

    def _info(self) -> EndpointInfo:
        return EndpointInfo(name=self.name, subject=self.subject, queue_group=self.queue_group, metadata=self.metadata)

    def _figures(self, data: Any) -> dict[str, Any]:
        """Return the JSON object in STATS, with the stats handler's data."""
        if self._context.config.stats_details:
            data = self._with_details(data)
        placed = self._placed
        return self._counters.figures(placed.config.name, placed.subject, placed.queue_group, data)

    def _stats(self) -> EndpointStats:
        """Return the same as a frozen copy, without the handler's data."""
        data = self._with_details(None) if self._context.config.stats_details else None
        return self._counters.snapshot(self.name, self.subject, self.queue_group, data)

    def _with_details(self, data: Any) -> Any:
        """Return the stats handler's data with what ADR-32 has no field for, where there is room for it."""
        if data is None:
            data = {}
        if not isinstance(data, dict) or DETAILS_KEY in data:
            return data
        stats = self.stats()
        details = {"failures": dict(stats.failures), "malformed": stats.malformed}
        return {**data, DETAILS_KEY: {**details, "pending": self.pending, "in_flight": self.in_flight}}

    async def _subscribe(self, tasks: TaskGroup, now: Callable[[], float]) -> None:
        self._queue.open(tasks, now)
        deliver = cast("Deliver", self._queue.intake)
        interest = Interest(self.subject, self.queue_group, deliver, self._on_subscription_error, Request)
        self._subscription = await self._context.fast_path._subscribe(interest)

    def _go_live(self) -> None:
        """Raise what the server has said against the subscription; without that, it has accepted it."""
        if self._denied is not None:
            raise self._denied
        self._is_live = True

    async def _leave(self) -> None:
        """Unsubscribe because the service ends."""
        if self._subscription is not None:
            await self._context.unsubscribe(self._subscription, self)

    async def _unsubscribe(self) -> None:
        if self._subscription is not None:
            await self._subscription._unsubscribe()

    def _take_denial(self, error: PublishDeniedError) -> bool:
        """Count the request whose reply the server did not let through as failed; false if it is none of this endpoint's."""
        return self._queue.take_denial(error)

    def _has_failed(self, error: PublishDeniedError) -> bool:
        """Whether the reply that the server did not let through is one to a request that is counted as failed already."""
        return self._queue.endings.has_failed(error)

    def _on_subscription_error(self, error: NatseryError) -> None:
        if isinstance(error, SlowConsumerError):
            # Lost between the connection and this loop: their reply subjects are not known any more.
            failure = Failure(FailureCause.UNDELIVERABLE, 503, "Slow Consumer")
            for _ in range(error.dropped - self._dropped):
                self._queue.endings.lose(failure)
            self._dropped = error.dropped
            self._context.errors.report(error, self)
            return
        if isinstance(error, SubscriptionDeniedError):
            error = SubscriptionDeniedError(error.subject, error.queue_group, endpoint=self.name)
        if self._is_live:
            self._context.fail(error, self)
        else:
            self._denied = error


def _metadata_of(placed: PlacedEndpoint) -> Mapping[str, str]:
    metadata = placed.config.metadata
    if placed.schema is None or placed.schema.digest is None:
        return metadata
    return MappingProxyType({**metadata, DIGEST_KEY: placed.schema.digest})
