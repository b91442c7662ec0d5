"""A running service: its endpoints, what discovery sees of it, and the way it ends."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any, Unpack, final

import anyio
from anyio.abc import TaskGroup

from .. import abc
from .._checks import GRACE_RULE, check_argument
from .._endpoint_config import EndpointConfig, EndpointLike, as_config, group
from .._errors import ConfigError, ConnectionClosedError, PublishDeniedError, ServiceStoppedError
from .._events import ConnectionEvent, EventKind
from .._fast_path import settle
from .._home import Home
from .._interrupts import start_task
from .._limits import GroupOptions, Limits
from .._nuid import new_nuid
from .._responses import ServiceInfo, ServicePing, ServiceStats, write_reply
from .._running_loop import loop_clock
from .._service_config import PlacedEndpoint, ServiceConfig, check_types, place, with_schema
from .._subjects import join
from .._tasks import lone
from ._context import ServiceContext
from ._control import ControlPlane
from ._endpoint import Endpoint
from ._schema_endpoint import schema_endpoint

FENCE_SECONDS = 1.0
"""How long each fence and flush of a stopping service may take before the server counts as unresponsive."""

CLOSE_SECONDS = 5.0
"""How long a client that was drained may take to close, once its services have ended."""


@final
class Service:
    """A service inside its scope; made by ``serve``.

    Attributes:
        id: this instance's id.
        config: what it was made from.
        started: when it started or was last reset.
    """

    id: str
    config: ServiceConfig
    started: datetime

    def __init__(self, connection: abc.Connection, config: ServiceConfig, grace: float, state: Any = None) -> None:
        self.id = config.id or new_nuid()
        self.config = config
        self.started = config.clock.now()
        self._home = Home()
        self._now = loop_clock()
        self._connection = connection
        self._context = ServiceContext(connection, config, self.stop, state, self.id)
        self._context.service = self
        self._grace = grace
        self._control = ControlPlane(self._context, self)
        self._endpoints: dict[Endpoint, None] = {}  # in the order of addition
        self._joining: dict[Endpoint, None] = {}
        self._plumbing: TaskGroup | None = None
        self._workers: TaskGroup | None = None
        self._body = anyio.CancelScope()
        self._shield = anyio.CancelScope(shield=True)
        self._hosted = anyio.Event()
        self._stopping = anyio.Event()
        self._stopped = anyio.Event()
        self._draining = anyio.CancelScope()
        self._is_responsive = True
        self._is_drained = False
        self._is_ended_by_drain = False
        self._error: BaseException | None = None
        self._connection_loss: Exception | None = None

    @property
    def name(self) -> str:
        """The kind of the service."""
        return self.config.name

    @property
    def version(self) -> str:
        """Its semantic version."""
        return self.config.version

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The endpoints, in the order of addition."""
        return tuple(self._endpoints)

    @property
    def pending(self) -> int:
        """How many requests it has accepted and not finished yet, those that wait and those that handlers have in hand."""
        return sum(endpoint.pending for endpoint in self._all_endpoints())

    def ping(self) -> ServicePing:
        """Return what PING answers."""
        config = self.config
        return ServicePing(name=config.name, id=self.id, version=config.version, metadata=config.metadata)

    def info(self) -> ServiceInfo:
        """Return what INFO answers; after the scope has ended, what it answered last."""
        config = self.config
        return ServiceInfo(
            name=config.name,
            id=self.id,
            version=config.version,
            metadata=config.metadata,
            description=config.description or "",
            endpoints=tuple(endpoint._info() for endpoint in self.endpoints),
        )

    def stats(self) -> ServiceStats:
        """Return what STATS answers, but for the stats handler's data; after the scope has ended, the final figures."""
        return replace(self._head_of_stats(), endpoints=tuple(endpoint._stats() for endpoint in self.endpoints))

    def reset(self) -> None:
        """Zero all counters and restart ``started``; requests under way are counted whole when they end."""
        self.started = self.config.clock.now()
        for endpoint in self.endpoints:
            endpoint._counters.reset()

    def stop(self, error: BaseException | None = None, *, grace: float | None = None) -> None:
        """Begin to end the service: the body is cancelled, the scope drains, then ``async with`` is left.

        Only signals, so it may be called from anywhere in the event loop, a handler included, and more than once.

        Args:
            error: raised from the ``async with``, as the object that it is; the first one given counts.
            grace: seconds from now that accepted requests get, instead of those that ``serve`` was given. A service that
                is stopping already can be hurried so, but not slowed down.

        Raises:
            TypeError, ValueError: ``grace`` breaks a rule.
            RuntimeError: the caller is not in the service's event loop, as in a thread.
        """
        if grace is not None:
            check_argument("grace", grace, GRACE_RULE)
        if self._stopped.is_set():
            return
        self._check_loop()
        if grace is not None and self._stopping.is_set():
            self._set_deadline(min(self._draining.deadline, self._now() + grace))
        elif grace is not None:
            self._grace = grace
        if self._error is None:
            self._error = error
        self._begin_stop()
        self._body.cancel("service stopping")

    async def wait_stopped(self) -> None:
        """Wait until the service has ended. Inside its own body that is: until ``stop`` or another end cancels the body.

        A checkpoint.
        """
        await self._stopped.wait()

    async def add_endpoint(self, endpoint: EndpointLike, /) -> Endpoint:
        """Add an endpoint while the service runs; it is live when this returns.

        Args:
            endpoint: an async function (decorated or not) or an `EndpointConfig`.

        Raises:
            ConfigError: a value breaks a rule.
            SubscriptionDeniedError: the server refuses it; nothing is left behind.
            ServiceStoppedError: the service is stopping.
            ConnectionClosedError: the connection is closed.

        **Cancellation:** nothing is added. A checkpoint.
        """
        return await self._add(endpoint, "", self.config._limits)

    def add_group(self, name: str, **options: Unpack[GroupOptions]) -> Group:
        """Return a prefix, and options, for endpoints that are added through it.

        Args:
            name: the prefix; an empty one adds nothing.
            options: as those of `group`.

        Raises:
            ConfigError: a value breaks a rule.
        """
        return Group(self, "", self.config._limits).add_group(name, **options)

    # Within the scope

    def _tell(self, method: str) -> None:
        """Tell instruments of the service's life."""
        if self._context.instruments is not None:
            self._context.instruments.tell(method, self)

    def _head_of_stats(self) -> ServiceStats:
        """Return STATS without endpoints."""
        config = self.config
        return ServiceStats(
            name=config.name, id=self.id, version=config.version, metadata=config.metadata, started=self.started
        )

    def _stats_json(self, data: dict[int, Any]) -> bytes:
        """Return what STATS answers, with the stats handler's data by the endpoints' identity."""
        reply = self._head_of_stats().to_dict()
        reply["endpoints"] = [endpoint._figures(data.get(id(endpoint))) for endpoint in self.endpoints]
        return write_reply(reply)

    def _check_loop(self) -> None:
        """Refuse callers in other threads, for what signals a task from there wakes nobody."""
        try:
            self._home.check()
        except RuntimeError:
            raise RuntimeError(
                "a service is stopped in its own event loop; write anyio.from_thread.run_sync(service.stop) in the thread of a "
                "handler, and trio.from_thread.run_sync or loop.call_soon_threadsafe in other threads"
            ) from None

    def _begin_stop(self) -> None:
        if not self._stopping.is_set():
            self._stopping.set()
            self._set_deadline(self._now() + self._grace)

    def _set_deadline(self, deadline: float) -> None:
        """Give accepted requests until then."""
        self._draining.deadline = deadline
        # The backstop of a bounded exit: the grace, then two fences, the control plane, error handlers and the last flush.
        self._shield.deadline = deadline + 8 * FENCE_SECONDS

    def _all_endpoints(self) -> list[Endpoint]:
        """Its endpoints, and those that are being added."""
        return [*self._endpoints, *self._joining]

    def _forget(self, endpoint: Endpoint) -> None:
        for endpoints in (self._endpoints, self._joining):
            endpoints.pop(endpoint, None)
        self._context.errors.forget(endpoint)

    async def _add(self, value: EndpointLike, prefix: str, limits: Limits) -> Endpoint:
        config = as_config(value)
        if not isinstance(config, EndpointConfig):
            raise ConfigError("endpoint", value, "must be one endpoint; add a group with add_group")
        (placed,) = place([config], limits, control_prefix=self.config.prefix, prefix=prefix)
        check_types(placed, self.config.codec)
        placed = with_schema(placed, self.config)
        await anyio.lowlevel.checkpoint()
        if self._stopping.is_set():
            raise ServiceStoppedError
        endpoint = Endpoint(self._context, placed)
        self._joining[endpoint] = None  # so that a service that stops meanwhile drains it too
        try:
            await self._attach(endpoint)
            await settle(self._connection)
            endpoint._go_live()
            if self._stopping.is_set():
                raise ServiceStoppedError
        except BaseException:
            self._withdraw(endpoint)
            # Protects the UNSUB, within a bound: the drain may have come before there was something to unsubscribe.
            with anyio.move_on_after(FENCE_SECONDS, shield=True):
                await endpoint._unsubscribe()
            raise
        del self._joining[endpoint]
        self._endpoints[endpoint] = None
        return endpoint

    async def _attach(self, endpoint: Endpoint) -> None:
        assert self._workers is not None
        await endpoint._subscribe(self._workers, self._now)

    def _withdraw(self, endpoint: Endpoint) -> None:
        """Take back an endpoint that did not come to life; what it had accepted by then is still answered."""
        if self._stopping.is_set():
            return  # the drain does it, and `_add` takes back the subscription
        assert self._workers is not None
        start_task(self._workers, self._finish_withdrawal, endpoint, name="natsery endpoint withdrawal")

    async def _finish_withdrawal(self, endpoint: Endpoint) -> None:
        with suppress(Exception):  # what is wrong with the connection, `_add` raises
            await endpoint.remove()

    def _placed_endpoints(self) -> Iterable[PlacedEndpoint]:
        config = self.config
        yield from config.placed_endpoints()
        if config.schemas:
            yield from place([schema_endpoint(self)], config._limits, control_prefix=config.prefix)

    async def _open(self) -> None:
        """Subscribe everything, and return when the server has accepted it."""
        for placed in self._placed_endpoints():
            await self._context.turns.checkpoint()  # so that other tasks have their turn, and the SUBs leave
            endpoint = Endpoint(self._context, placed)
            self._endpoints[endpoint] = None
            await self._attach(endpoint)
        await self._control.subscribe()
        await settle(self._connection)
        for endpoint in self._endpoints:
            endpoint._go_live()
        self._control.go_live()
        assert self._plumbing is not None
        for run in self._control.runners:
            start_task(self._plumbing, run, name="natsery control plane")

    async def _host(self) -> None:
        """Run the service's tasks: shielded, so that what was accepted outlives a cancelled body."""
        try:
            await self._run_tasks()
            if self._is_ended_by_drain:
                # The body may be what drains the client, so it is not cancelled before that is over.
                with anyio.move_on_after(CLOSE_SECONDS):
                    await self._connection.wait_closed()
                self.stop()
        except Exception as error:  # of a connection of the program's own, or a mistake of natsery's
            self.stop(lone(error))
        finally:
            if not self._is_drained:
                # Without the tasks, no subscription may stay.
                if not self._stopping.is_set():
                    self.stop(RuntimeError("the service's tasks have ended before it was stopped"))
                # Protects the UNSUBs, within a bound.
                with anyio.move_on_after(FENCE_SECONDS, shield=True):
                    for endpoint in self._all_endpoints():
                        await endpoint._leave()
                    await self._control.unsubscribe()
                    await self._context.streams.unsubscribe()

    async def _run_tasks(self) -> None:
        # Protects requests under way; its deadline is set the moment that the service begins to stop.
        with self._shield:
            async with anyio.create_task_group() as plumbing:
                self._plumbing = plumbing
                stop_listening = self._connection.add_listener(self._on_connection_event)
                release = self._context.fast_path._hold_open(self._on_drain)
                try:
                    plumbing.start_soon(self._context.refusals.run, name="natsery refusals")
                    plumbing.start_soon(self._context.errors.run, name="natsery error handler")
                    plumbing.start_soon(self._watch_connection, name="natsery connection watch")
                    async with anyio.create_task_group() as workers:
                        self._workers = workers
                        self._hosted.set()
                        await self._stopping.wait()
                        await self._drain_endpoints()
                        workers.cancel_scope.cancel("service stopping")
                    await self._close_control()
                finally:
                    stop_listening()
                    self._context.errors.close()
                    release()
                self._is_drained = True
                plumbing.cancel_scope.cancel("service stopped")

    async def _watch_connection(self) -> None:
        await self._connection.wait_closed()
        reason = self._connection_loss
        error = ConnectionClosedError(
            "the NATS connection is closed; the service cannot go on without it" + (f" ({reason})" if reason else "")
        )
        error.__cause__ = reason
        self.stop(error)

    def _on_drain(self) -> None:
        """End the service, because the program drains the client that its connection consists of."""
        self._is_ended_by_drain = True
        self._begin_stop()

    def _on_connection_event(self, event: ConnectionEvent) -> None:
        error = event.error
        if event.kind is EventKind.CLOSED:
            self._connection_loss = error
        elif event.kind is EventKind.ERROR and isinstance(error, PublishDeniedError):
            endpoints = self._all_endpoints()
            concerned = next((each for each in endpoints if each._take_denial(error)), None)
            if concerned is None:  # a further reply to a request that has failed
                concerned = next((each for each in endpoints if each._has_failed(error)), None)
            self._context.errors.report(error, concerned)

    async def _drain_endpoints(self) -> None:
        """Stop taking requests and finish those accepted, within the grace."""
        endpoints = self._all_endpoints()
        try:
            with anyio.move_on_after(FENCE_SECONDS):
                for endpoint in endpoints:
                    await endpoint._leave()
            await self._fence()
            with self._draining:
                for endpoint in endpoints:
                    await endpoint._queue.wait_drained()
        finally:
            for endpoint in endpoints:
                endpoint._queue.cut_off()

    async def _close_control(self) -> None:
        """Leave the control plane, and see the last replies out."""
        with anyio.move_on_after(FENCE_SECONDS):
            await self._control.unsubscribe()
            await self._context.streams.unsubscribe()
        await self._fence()
        with anyio.move_on_after(FENCE_SECONDS):
            await self._control.wait_answered()
            await self._context.refusals.wait_sent()
        self._context.refusals.report_unsent()
        self._context.errors.report_dropped()
        with anyio.move_on_after(FENCE_SECONDS):
            await self._context.errors.wait_returned()
        await self._fence()

    async def _fence(self) -> None:
        """Wait until the server has answered a flush, within a bound, but not again once it has left one unanswered."""
        if not self._is_responsive or not self._context.fast_path._may_deliver:
            return
        self._is_responsive = not self._connection.is_connected  # one that is being left says nothing of the next one
        with anyio.move_on_after(FENCE_SECONDS):
            try:
                await settle(self._connection)
            except ConnectionClosedError:
                return
            except Exception as error:  # of a connection of the program's own
                self._context.fail(error)
                return
            self._is_responsive = True


@final
class Group:
    """A subject prefix and options, to add endpoints under; nothing at run time."""

    def __init__(self, service: Service, prefix: str, limits: Limits) -> None:
        self._service = service
        self._prefix = prefix
        self._limits = limits

    @property
    def prefix(self) -> str:
        """What the subjects of its endpoints begin with, ``""`` for nothing."""
        return self._prefix

    async def add_endpoint(self, endpoint: EndpointLike, /) -> Endpoint:
        """Add an endpoint below the prefix; as `Service.add_endpoint`."""
        return await self._service._add(endpoint, self._prefix, self._limits)

    def add_group(self, name: str, **options: Unpack[GroupOptions]) -> Group:
        """Return a group below this one; as `Service.add_group`."""
        limits = group(name, **options).inside(self._limits)
        return Group(self._service, join(self._prefix, name), limits)
