"""`serve`: a service as the length of a block."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, Any, final

import anyio
from anyio import TASK_STATUS_IGNORED, get_cancelled_exc_class
from anyio.abc import TaskStatus

from .. import abc
from .._checks import GRACE_RULE, check_argument
from .._errors import BackendMismatchError, ConfigError, ConnectionClosedError, shorten
from .._interrupts import protect_from_interrupt, start_task
from .._running_loop import loop_name, note_wrong_loop
from .._service_config import ServiceConfig
from .._signals import StopSignals
from .._tasks import block_of_one_task, raise_as_it_is
from ._as_connection import as_connection
from ._request_queue import RequestQueue
from ._service import Service
from ._work_queue import WorkQueue

if TYPE_CHECKING:
    from nats.aio.client import Client

DEFAULT_GRACE = 10.0
"""Seconds that accepted requests get when a service ends."""


async def _stop(service: Service) -> None:
    service.stop()


@block_of_one_task("natsery.serve", _stop)
@asynccontextmanager
async def serve(
    nc: abc.Connection | Client, config: ServiceConfig, *, grace: float = DEFAULT_GRACE, stop_on_signals: bool = False
) -> AsyncIterator[Service]:
    """Run a service for the length of a block::

        async with natsery.serve(nc, config) as service:
            await service.wait_stopped()

    The block begins when the server has confirmed every subscription. However it ends (its end, an exception, a
    cancellation, ``service.stop()``, the loss of the connection), the endpoints stop taking requests, what they have
    accepted is answered, and only then is the block left. The connection stays open.

    A lifespan of the configuration is entered before everything else and left after everything else; what it raises leaves
    as it is, and it sees the block's exception as any ``async with`` around the block would.

    Args:
        nc: a connection of natsery's, or a connected nats-py client of this asyncio loop.
        config: what to serve.
        grace: seconds that accepted requests get, from the moment the block ends; what is not finished then is answered
            with 503, ``Service Stopping``. 0 cuts off at once. Leaving takes at most a few seconds more; only a handler
            that shields itself from cancellation, or blocks the event loop, can hold it longer.
        stop_on_signals: whether SIGINT (Ctrl-C) and SIGTERM, on Windows also SIGBREAK, end the service, from the moment it is
            live until it has ended. The first signal is a ``stop()``: the body is cancelled, and accepted requests get the
            grace. The second one cuts them off, as ``stop(grace=0)`` does. After that the signals do again what they did
            before, so a third one ends a program that hangs. Services of one event loop that say so stop together. A
            signal that the program ignores stays ignored. Leave it to a web server, or what else handles signals in the
            program, and end the block instead.

    Raises:
        SubscriptionDeniedError: the server refuses a subscription, at the start (nothing is left behind) or later (the
            service drains first).
        ConnectionClosedError: the connection is or becomes closed for good.
        TypeError, ValueError: ``config`` or ``grace`` breaks a rule.
        BackendMismatchError: ``nc`` cannot be driven from this event loop.
        RuntimeError: ``stop_on_signals`` outside of the main thread, where no signals arrive.

    What the body raises leaves the block as the object that it is; if ``stop(error)`` gave an error as well, both leave as
    an exception group.

    **Cancellation:** a cancelled body is left at once; requests already accepted still get the grace, shielded. Entering
    is a checkpoint and, cancelled, leaves nothing behind.
    """
    if not isinstance(config, ServiceConfig):
        raise TypeError(f"config: must be a natsery.ServiceConfig; got {shorten(config)}")
    check_argument("grace", grace, GRACE_RULE)
    if config.backend not in (None, loop_name()):
        raise BackendMismatchError(
            f"the service {config.name!r} is for {config.backend}, and {loop_name()} is running; "
            f"write anyio.run(main, backend={config.backend!r}), or natsery run --backend {config.backend}"
        )
    signals = StopSignals.in_this_loop() if stop_on_signals else None
    protect_from_interrupt(Service._host, RequestQueue._work, WorkQueue.run)
    async with as_connection(nc) as connection:
        if connection.is_closed:
            raise ConnectionClosedError
        async with _lifespan(config, connection) as state:
            service = Service(connection, config, grace, state)
            body_error: BaseException | None = None
            has_started = False
            try:
                async with anyio.create_task_group() as tasks:
                    try:
                        # Not `tasks.start`: cancelled, that waits for the host to end, which is shielded from the same
                        # cancellation and waits for `_begin_stop`.
                        start_task(tasks, service._host, name=f"natsery service {service.name}")
                        await service._hosted.wait()
                        await service._open()
                        service._tell("service_started")
                        has_started = True
                        if signals is not None:
                            signals.add(service.stop)
                        with service._body:
                            yield service
                    except get_cancelled_exc_class():
                        raise
                    except BaseException as error:  # raised again below, outside of the task group
                        body_error = error
                    finally:
                        service._begin_stop()
            except get_cancelled_exc_class():  # noqa: ASYNC103  # what the service failed of is raised in its place
                if service._error is None:
                    raise
            finally:
                service._stopped.set()
                if signals is not None:
                    signals.discard(service.stop)
                if has_started:
                    service._tell("service_ended")
            _raise_what_happened(body_error, service._error)


def _lifespan(config: ServiceConfig, connection: abc.Connection) -> AbstractAsyncContextManager[Any]:
    if config.lifespan is None:
        return nullcontext()
    lifespan: object = config.lifespan(connection)
    if not isinstance(lifespan, AbstractAsyncContextManager):
        if inspect.iscoroutine(lifespan):
            lifespan.close()
        reason = (
            f"must return an async context manager, not {type(lifespan).__name__}; write @asynccontextmanager above it"
        )
        raise ConfigError("ServiceConfig.lifespan", config.lifespan, reason)
    return _Lifespan(lifespan)


@final
class _Lifespan(AbstractAsyncContextManager[Any]):
    """A lifespan, whose start may find itself in the wrong event loop: many a database's client is for asyncio alone."""

    def __init__(self, lifespan: AbstractAsyncContextManager[Any]) -> None:
        self._lifespan = lifespan

    async def __aenter__(self) -> Any:
        try:
            return await self._lifespan.__aenter__()
        except (RuntimeError, TypeError) as error:
            note_wrong_loop(error)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._lifespan.__aexit__(kind, error, traceback)  # noqa: ASYNC102  # it shields what it must


def _raise_what_happened(body_error: BaseException | None, stop_error: BaseException | None) -> None:
    errors = [error for error in (body_error, stop_error) if error is not None]
    if len(errors) == 2 and errors[0] is not errors[1]:
        raise BaseExceptionGroup("the body and the service failed", errors)
    if errors:
        raise_as_it_is(errors[0])


async def serve_forever(
    nc: abc.Connection | Client,
    config: ServiceConfig,
    *,
    grace: float = DEFAULT_GRACE,
    stop_on_signals: bool = False,
    task_status: TaskStatus[Service] = TASK_STATUS_IGNORED,
) -> None:
    """Run a service until it is cancelled or stopped, as a task::

        service = await nursery.start(natsery.serve_forever, nc, config)

    Or as all that a program does, until Ctrl-C or SIGTERM::

        await natsery.serve_forever(nc, config, stop_on_signals=True)

    Takes and raises what ``serve`` does; returns after ``service.stop()``, or the signal.

    **Cancellation:** ends the service as the end of ``serve``'s block does, drained within the grace.
    """
    async with serve(nc, config, grace=grace, stop_on_signals=stop_on_signals) as service:
        task_status.started(service)
        await service.wait_stopped()
