"""What the parts of one service share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, final

from .. import abc
from .._core._limits import HOLD_NS
from .._fast_path import FastPath, FastSubscription, fast_path
from .._instrumentation import Instruments
from .._instruments import Instrument
from .._service_config import ServiceConfig
from .._subjects import SERVER_INBOXES, forbidden_reply_prefixes, is_answerable
from .._turns import Turns
from ._error_reporting import ErrorReporter
from ._refusals import Refusals
from ._streams import Streams

if TYPE_CHECKING:
    from ._endpoint import Endpoint
    from ._service import Service


@final
class ServiceContext:
    """The connection of a service, its configuration, and the ways to report, refuse and stop.

    Args:
        connection: what it is served over.
        config: what is served.
        stop: has the service end with an error; only signals.
        state: what its lifespan has yielded.
        instance: the instance's id, ``""`` for a request that was made for a test.

    Attributes:
        service: the service itself, ``None`` for a request that was made for a test.
        fast_path: what replies and subscriptions go through.
        errors: where errors are reported.
        refusals: what answers requests that no handler will see.
        forbidden_replies: how the reply subjects begin that are not answered, but for exceptions.
        suspicious_replies: the characters that these, and malformed ones, begin with.
        clock_ns: the clock for processing times, in nanoseconds.
        turns: the checkpoint rule for what handlers send.
        streams: the replies of handlers that stream.
        instruments: who is told of each request, ``None`` if nobody is.
    """

    def __init__(
        self,
        connection: abc.Connection,
        config: ServiceConfig,
        stop: Callable[[BaseException], None],
        state: Any,
        instance: str,
    ) -> None:
        self.connection = connection
        self.config = config
        self.stop = stop
        self.state = state
        self.service: Service | None = None
        self.fast_path: FastPath = fast_path(connection)
        self.errors: ErrorReporter = ErrorReporter(config, instance, stop)
        self.refusals: Refusals = Refusals(self.fast_path, self.errors)
        self.forbidden_replies: tuple[str, ...] = forbidden_reply_prefixes(config.prefix)
        self.suspicious_replies: frozenset[str] = frozenset({".", *(prefix[0] for prefix in self.forbidden_replies)})
        self.clock_ns: Callable[[], int] = config.clock.monotonic_ns
        self.turns: Turns = Turns()
        self.streams: Streams = Streams(self)
        self.instruments: Instruments | None = (
            Instruments(config.instruments, self._report_instrument) if config.instruments else None
        )

    def push_if_due(self) -> None:
        """Send what handlers have answered, if it has waited for long: they may compute before they send any more."""
        held, now = self.fast_path._held, self.clock_ns()
        if not held.since:
            held.since = now
        elif now - held.since > HOLD_NS:
            self.fast_path._push_answers()
            held.since = now

    def may_answer(self, reply: str, declared: tuple[str, ...] = ()) -> bool:
        """Whether a reply may be sent to a subject that a requester chose, or that begins as an endpoint has declared."""
        return is_answerable(reply, self.forbidden_replies, self.fast_path._max_subjects, (SERVER_INBOXES, *declared))

    def _report_instrument(self, instrument: Instrument, error: BaseException) -> None:
        if isinstance(error, Exception):
            what = f"the instrument {type(instrument).__name__}, which is told nothing more,"
            self.errors.report(error, traceback=True, raised_by=what)
        else:
            self.stop(error)

    def fail(self, error: Exception, endpoint: Endpoint | None = None) -> None:
        """Report an error of the connection, and end the service with it."""
        self.errors.report(error, endpoint)
        self.stop(error)

    async def unsubscribe(self, subscription: FastSubscription, endpoint: Endpoint | None = None) -> None:
        """End a subscription because the service ends. Not a checkpoint."""
        try:
            await subscription._unsubscribe()
        except Exception as error:  # of a connection of the program's own; the others are ended all the same
            self.fail(error, endpoint)
