"""The control plane of one service: nine subscriptions, and the answers to PING, INFO and STATS."""

from __future__ import annotations

import inspect
from functools import partial
from typing import TYPE_CHECKING, Any, final

import anyio
from anyio import get_cancelled_exc_class

from .._adr32 import INTERNAL_ERROR, TOO_LARGE, Verb, control_subject
from .._errors import MalformedRequestError, MaxPayloadError, NatseryError
from .._fast_path import FastSubscription, Interest
from .._message import Message
from .._responses import check_json
from .._service_error import error_headers
from ._invoke import error_of_hook
from ._work_queue import WorkQueue

if TYPE_CHECKING:
    from ._context import ServiceContext
    from ._service import Service

MAX_WAITING = 8_192
"""Control requests that may wait; more are dropped and reported."""

STATS_HANDLER_SECONDS = 5.0
"""How long an async stats handler may take over one endpoint before STATS goes out without its data."""


@final
class ControlPlane:
    """Answers control requests, in the application's own event loop.

    PING and INFO have a separate task, so that a slow stats handler does not delay them.
    """

    def __init__(self, context: ServiceContext, service: Service) -> None:
        self._service = service
        self._context = context
        self._fast_path = context.fast_path
        self._errors = context.errors
        self._subscriptions: list[FastSubscription] = []
        self._denied: NatseryError | None = None
        self._is_live = False
        self._quick: WorkQueue[tuple[Verb, str]] = WorkQueue(self._answer, MAX_WAITING)
        self._slow: WorkQueue[tuple[Verb, str]] = WorkQueue(self._answer, MAX_WAITING)
        self.runners = (self._quick.run, self._slow.run)

    async def subscribe(self) -> None:
        """Subscribe to the three verbs for all services, for this name and for this instance; never in a queue group."""
        service = self._service
        for verb in Verb:
            for name, id_ in ((None, None), (service.name, None), (service.name, service.id)):
                subject = control_subject(verb, name, id_, prefix=service.config.prefix)
                self._subscriptions.append(
                    await self._fast_path._subscribe(
                        Interest(subject, "", partial(self._deliver, verb), self._on_subscription_error)
                    )
                )

    def go_live(self) -> None:
        """Raise what the server has said against a subscription; without that, it has accepted them."""
        if self._denied is not None:
            raise self._denied
        self._is_live = True

    async def unsubscribe(self) -> None:
        """Take no more control requests; those on the way are still answered."""
        for subscription in self._subscriptions:
            await self._context.unsubscribe(subscription)

    async def wait_answered(self) -> None:
        """Wait until every control request so far has its answer. One that came before a start that failed gets none."""
        if not self._is_live:
            return
        await self._quick.wait_empty()
        await self._slow.wait_empty()

    def _deliver(self, verb: Verb, message: Message) -> None:
        reply = message.reply
        if not reply:
            self._errors.report(MalformedRequestError(message.subject, "it has no reply subject"))
        elif not self._context.may_answer(reply):
            reason = f"its reply subject {reply!r:.200} may not be answered"
            self._errors.report(MalformedRequestError(message.subject, reason))
        elif not (self._slow if verb is Verb.STATS else self._quick).put((verb, reply)):
            self._errors.report(MalformedRequestError(message.subject, f"{MAX_WAITING} others are waiting"))

    def _on_subscription_error(self, error: NatseryError) -> None:
        if self._is_live:
            self._context.fail(error)
        else:
            self._denied = error

    async def _answer(self, item: tuple[Verb, str]) -> None:
        verb, reply = item
        try:
            try:
                await self._fast_path._send(reply, await self._payload(verb))
            except MaxPayloadError as error:
                self._errors.report(error)
                await self._fast_path._send(reply, headers=error_headers(*TOO_LARGE))
            except (TypeError, ValueError) as error:
                self._errors.report(error, traceback=True, raised_by=f"the answer to {verb}")
                await self._fast_path._send(reply, headers=error_headers(*INTERNAL_ERROR))
        except Exception as error:  # whatever a connection raises ends no more than this answer
            self._errors.report(error)

    async def _payload(self, verb: Verb) -> bytes:
        if verb is Verb.PING:
            return self._service.ping().to_json()
        if verb is Verb.INFO:
            return self._service.info().to_json()
        return self._service._stats_json(await self._stats_data())

    async def _stats_data(self) -> dict[int, Any]:
        """Return what the stats handler gives for each endpoint, by the endpoint's identity."""
        handler = self._service.config.stats_handler
        if handler is None:
            return {}
        data: dict[int, Any] = {}
        for endpoint in list(self._service.endpoints):
            try:
                result = handler(endpoint.stats())
                if inspect.isawaitable(result):
                    with anyio.fail_after(STATS_HANDLER_SECONDS):
                        result = await result
                check_json(result)
            except BaseException as error:  # noqa: ASYNC103  # its own cancellation is raised again in there
                try:
                    what = "the stats handler"
                    self._errors.report(error_of_hook(what, error), endpoint, traceback=True, raised_by=what)
                except get_cancelled_exc_class():
                    raise
                except BaseException as fatal:  # noqa: ASYNC103  # such as SystemExit
                    self._context.stop(fatal)
            else:
                data[id(endpoint)] = result
        return data
