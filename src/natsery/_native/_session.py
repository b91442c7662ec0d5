"""One network connection at work: a reader, a writer, and a look-out for a server that answers no more."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, final

import anyio

from .._backends._plain_stream import PlainStream
from .._errors import ConnectionLostError, NatseryError
from .._protocol import _commands
from .._protocol._parser import Event
from ._handshake import RECEIVE_BYTES, Link
from ._options import Options
from ._write_buffer import WriteBuffer

if TYPE_CHECKING:
    from ._subscriptions import NativeSubscription

logger = logging.getLogger("natsery")


@final
class Fence:
    """Somebody who waits for the answer to a PING."""

    def __init__(self) -> None:
        self.done: anyio.Event = anyio.Event()
        self.has_passed: bool = False

    def pass_(self) -> None:
        """The answer is there."""
        self.has_passed = True
        self.done.set()


@final
class Ping(NamedTuple):
    """A PING under way, and what its PONG settles."""

    fence: Fence | None
    ending: list[NativeSubscription]
    """Those of which nothing comes after the PONG."""
    last_sid: int
    """The newest subscription that the server has seen by then."""


@final
class Session:
    """Runs a link until it breaks or is to end.

    Args:
        link: what to run; it is closed at the end.
        write_buffer: what to send.
        options: how long the server may be silent.
        dispatch: takes events in the order of the wire; raises only if the link is to break for it.
        ping: has this session send a PING.

    Attributes:
        received_bytes: what has come from the network.
        complaint: what the server complained about last; if it closes the link then, that is why.
    """

    def __init__(
        self,
        link: Link,
        write_buffer: WriteBuffer,
        options: Options,
        dispatch: Callable[[Session, list[Event]], None],
        ping: Callable[[Session, Fence | None], None],
    ) -> None:
        self.link = link
        self.write_buffer = write_buffer
        self.complaint: NatseryError | None = None
        self._dispatch = dispatch
        self._send_ping = ping
        self._ping_interval = options.ping_interval
        self._max_outstanding_pings = options.max_outstanding_pings
        self._pings: deque[Ping] = deque()
        self._scope = anyio.CancelScope()
        self._reason: Exception | None = None
        self.received_bytes = 0

    async def run(self) -> Exception | None:
        """Work until the link breaks or ``end`` is called; says why it broke."""
        try:
            async with anyio.create_task_group() as tasks:
                with self._scope:
                    tasks.start_soon(self._until_broken, self._write, name="natsery writer")
                    tasks.start_soon(self._until_broken, self._keep_alive, name="natsery keep-alive")
                    await self._until_broken(self._read)
                tasks.cancel_scope.cancel("the network connection has ended")
        finally:
            with suppress(Exception):
                await anyio.aclose_forcefully(self.link.stream)  # noqa: ASYNC102  # closes without waiting
        return self._reason

    def end(self) -> None:
        """Have ``run`` return soon."""
        self._scope.cancel("the network connection is not needed any more")

    def ping(self, ping: Ping) -> None:
        """Send a PING."""
        self._pings.append(ping)
        self.write_buffer.put(_commands.PING)

    def take_pong(self) -> Ping | None:
        """The PING that a PONG answers; an answer to no question harms nobody."""
        if not self._pings:
            return None
        ping = self._pings.popleft()
        if ping.fence is not None:
            ping.fence.pass_()
        return ping

    def open_fences(self) -> list[Fence]:
        """Those who still wait, in order."""
        return [ping.fence for ping in self._pings if ping.fence is not None]

    def _break(self, reason: Exception) -> None:
        if self._reason is None:
            self._reason = reason
        self.end()

    async def _until_broken(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            self._break(self.complaint or _lost(error))
        except NatseryError as error:
            self._break(error)
        except Exception as error:
            logger.exception("the NATS connection to %s failed unexpectedly", self.link.address)
            self._break(error)

    async def _read(self) -> None:
        self._dispatch(self, self.link.events)
        stream = self.link.stream
        if isinstance(stream, PlainStream):
            await stream.receive_into(self._take)
        else:
            while True:
                self._take(await stream.receive(RECEIVE_BYTES))

    def _take(self, chunk: bytes) -> None:
        self.received_bytes += len(chunk)
        self._dispatch(self, self.link.parser.feed(chunk))

    async def _write(self) -> None:
        stream, write_buffer = self.link.stream, self.write_buffer
        while True:
            await write_buffer.wait_for_frames()
            await stream.send(write_buffer.take())
            write_buffer.sent()

    async def _keep_alive(self) -> None:
        # By what is received, for a PING may be stuck behind a send buffer that a frozen server does not empty.
        seen = self.received_bytes
        outstanding = 0
        while True:
            await anyio.sleep(self._ping_interval)
            if self.received_bytes != seen:
                seen, outstanding = self.received_bytes, 0
            elif outstanding >= self._max_outstanding_pings:
                silence = self._ping_interval * self._max_outstanding_pings
                raise ConnectionLostError(f"the server has sent nothing for {silence:g} s, although it was asked to")
            outstanding += 1
            self._send_ping(self, None)


def _lost(error: Exception) -> ConnectionLostError:
    text = "the server closed the network connection" if isinstance(error, anyio.EndOfStream) else "the network failed"
    cause = error.__cause__
    lost = ConnectionLostError(f"{text} ({cause})" if cause is not None and str(cause) else text)
    lost.__cause__ = error
    return lost
