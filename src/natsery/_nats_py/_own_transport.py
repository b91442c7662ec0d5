"""The transport of a bridge's client: nats-py's, but for what is quicker without its tasks and from the caller's thread."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol, final
from urllib.parse import ParseResult

from nats.aio.transport import TcpTransport

RECEIVE_BYTES: Final = 64 * 1024


class _Reading(Protocol):
    def reset(self) -> None: ...

    def take(self, data: bytes) -> bool: ...


@final
class OwnTransport(TcpTransport):
    """A TCP transport with a quicker way out of its socket, and a second way into it for whole frames from another thread.

    The lock is held for one system call that does not wait, or for one call of asyncio's transport.

    Args:
        reading: told of each new connection, and given what comes, in the loop's own callback, where nothing that came before
            is left for nats-py to read; false if nats-py must read it too.
    """

    def __init__(self, reading: _Reading) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._reading = reading
        self._is_reading = False
        self._unread_bytes = 0
        self._lock = threading.Lock()
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._rest = b""
        self._is_clear = False

    # In the client's thread, by nats-py

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: int) -> None:
        """See nats-py's ``Transport``."""
        self.close()  # nats-py leaves the last one as it is if its handshake failed
        self._reading.reset()
        assert uri.hostname is not None
        assert uri.port is not None
        loop = self._loop
        reader = asyncio.StreamReader(buffer_size, loop)
        protocol = _Protocol(reader, loop, self._receive)
        async with asyncio.timeout(connect_timeout):
            transport, _ = await loop.create_connection(lambda: protocol, uri.hostname, uri.port)
        self._bare_io_reader = self._io_reader = reader
        self._bare_io_writer = self._io_writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        self._is_reading, self._unread_bytes = False, 0
        # A descriptor of its own: asyncio closes the other one whenever it likes, and its number may serve anew at once.
        theirs = transport.get_extra_info("socket")
        self._socket = socket.fromfd(theirs.fileno(), theirs.family, theirs.type)

    async def connect_tls(
        self, uri: str | ParseResult, ssl_context: ssl.SSLContext, buffer_size: int, connect_timeout: int
    ) -> None:
        """See nats-py's ``Transport``; what goes over TLS has one way only."""
        self._shut()
        await super().connect_tls(uri, ssl_context, buffer_size, connect_timeout)

    async def read(self, buffer_size: int) -> bytes:
        """See nats-py's ``Transport``. Its reader alone calls this, once it is connected."""
        self._is_reading = True
        data: bytes = await super().read(buffer_size)
        self._unread_bytes -= len(data)
        return data

    async def readline(self) -> bytes:
        """See nats-py's ``Transport``."""
        line: bytes = await super().readline()  # type: ignore[no-untyped-call]
        self._unread_bytes -= len(line)
        return line

    def _receive(self, data: bytes) -> bool:
        if self._is_reading and not self._unread_bytes and self._reading.take(data):
            return True
        self._unread_bytes += len(data)
        return False

    def write(self, payload: bytes) -> None:
        """See nats-py's ``Transport``. A new connection begins with this, before its second way is open."""
        with self._lock:
            self._write([payload])

    def writelines(self, payload: Sequence[bytes]) -> None:
        """See nats-py's ``Transport``. nats-py's flusher alone calls this, once it is connected."""
        with self._lock:
            self._is_clear = self._write(payload)

    def close(self) -> None:
        """See nats-py's ``Transport``."""
        self._shut()
        super().close()  # type: ignore[no-untyped-call]

    def _write(self, payload: Sequence[bytes]) -> bool:
        """Write, after what the other thread could not send; whether the second way may be used. With the lock held."""
        writer = self._io_writer
        assert writer is not None
        if self._rest:
            writer.write(self._rest)
            self._rest = b""
        writer.writelines(payload)
        if self._socket is None or writer.transport.get_write_buffer_size():
            self._is_clear = False
            return False
        return True

    def _write_rest(self) -> None:
        with self._lock:
            if self._rest:
                self._write(())

    def _shut(self) -> None:
        """Close the second way."""
        with self._lock:
            if self._rest:
                self._write(())
            self._is_clear = False
            if self._socket is not None:
                self._socket.close()
                self._socket = None

    # In any thread

    def send_nowait(self, frames: bytes) -> bool:
        """Send whole frames at once, after all that was written; false, and nothing is sent, where that would need a wait."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            if not self._is_clear or self._socket is None:
                return False
            try:
                sent = self._socket.send(frames)
            except OSError:  # it takes nothing now, or is broken, which asyncio finds out by itself
                return False
            if sent < len(frames):
                self._is_clear = False
                self._rest = frames[sent:]
                with suppress(RuntimeError):  # the loop has ended, and with it the connection
                    self._loop.call_soon_threadsafe(self._write_rest)
        finally:
            self._lock.release()
        return True


@final
class _Protocol(asyncio.StreamReaderProtocol, asyncio.BufferedProtocol):
    """asyncio's protocol beneath a stream reader, which gets what ``take`` leaves to it."""

    def __init__(
        self, reader: asyncio.StreamReader, loop: asyncio.AbstractEventLoop, take: Callable[[bytes], bool]
    ) -> None:
        super().__init__(reader, loop=loop)
        self._buffer = memoryview(bytearray(RECEIVE_BYTES))
        self._take = take

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # asyncio's way to call it
        """Where what comes is to be written."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes have come."""
        self.data_received(bytes(self._buffer[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """These have; uvloop takes this for a protocol that has no buffer of its own."""
        if not self._take(data):
            super().data_received(data)
