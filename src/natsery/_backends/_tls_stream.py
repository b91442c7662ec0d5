"""A TLS stream that encrypts and decrypts where a `DirectStream` sends and receives, on any event loop."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Final, NamedTuple, final

import anyio
from anyio.lowlevel import checkpoint
from anyio.streams.tls import TLSStream

from ._direct_stream import DirectStream, Take

RECORD_BYTES: Final = 16 * 1024
"""Bytes of the largest record, decrypted."""

ENCRYPT_BYTES: Final = 64 * 1024
"""Bytes that are encrypted before they are sent: no more of them wait encrypted."""

MAX_UNSENT_ANSWERS: Final = 64 * 1024
"""Bytes of TLS's own answers that may wait to be sent."""


class TlsState(NamedTuple):
    """What a TLS stream consists of, but for the stream below."""

    ssl_object: ssl.SSLObject
    incoming: ssl.MemoryBIO
    outgoing: ssl.MemoryBIO


def state_of(stream: TLSStream) -> TlsState | None:
    """Return the state of a TLS stream of anyio's, or ``None`` if anyio does not keep it in the expected way."""
    ssl_object = getattr(stream, "_ssl_object", None)
    incoming, outgoing = getattr(stream, "_read_bio", None), getattr(stream, "_write_bio", None)
    if ssl_object is None or not (isinstance(incoming, ssl.MemoryBIO) and isinstance(outgoing, ssl.MemoryBIO)):
        return None
    return TlsState(ssl_object, incoming, outgoing)


@final
class TlsStream(DirectStream):
    """A TLS stream for one reading and one writing task.

    anyio's stream goes through two coroutines for each record that it receives, and cannot send without waiting. The end of
    the stream below is the end of this one, with or without TLS's own ``close_notify``, and none is sent.

    Args:
        below: the stream that carries the encrypted bytes.
        state: the state after the handshake. A stream that it was taken from must not be used afterwards.

    Attributes:
        below: the stream that carries the encrypted bytes.
        on_unsent: called while receiving when TLS itself has something to send, in another handshake for instance. ``send``
            sends it, before the bytes that it is given, if any.
    """

    def __init__(self, below: DirectStream, state: TlsState) -> None:
        self.on_unsent: Callable[[], None] = _do_nothing
        self.below = below
        self._ssl_object, self._incoming, self._outgoing = state
        self._take: Take
        self._is_in_large_message = False
        self._has_received: anyio.Event | None = None
        """What a sender waits for, if there is one that has to wait for that."""
        self._has_ended = False
        self._error: Exception | None = None
        self._unsent = b""
        """What ``send_nowait`` has encrypted and the stream below has not accepted."""
        self._encrypted_ahead = 0
        """How many bytes that are still to be given to ``send`` are in there."""
        self._is_sending = False
        """Stays true if sending is cut short: the peer can decrypt nothing after a gap."""

    async def receive_into(self, take: Take) -> None:
        """See `DirectStream`."""
        await checkpoint()
        self._take = take
        try:
            self._receive(b"")  # what was received with the end of the handshake
            await self.below.receive_into(self._receive)
        finally:
            self._has_ended = True
            self._wake_sender()

    def _receive(self, chunk: bytes | memoryview) -> bool:
        """Decrypt a chunk, and hand on what was in it."""
        self._incoming.write(chunk)
        data, end = self._decrypt()
        if data:
            self._is_in_large_message = self._take(data)
        if end is not None:
            raise end
        self._wake_sender()
        unsent = self._outgoing.pending
        if unsent and not self._is_sending:
            self.on_unsent()
        if unsent > MAX_UNSENT_ANSWERS:
            raise anyio.BrokenResourceError from ConnectionError("the peer does not read the answers to its handshakes")
        return self._is_in_large_message

    def _wake_sender(self) -> None:
        if self._has_received is not None:
            self._has_received.set()

    def _decrypt(self) -> tuple[bytes, Exception | None]:
        """Return what can be decrypted now, and the error that says why no more will follow, if that is so."""
        read, pending = self._ssl_object.read, self._ssl_object.pending
        records: list[bytes] = []
        end: Exception | None = None
        incoming = self._incoming
        try:
            while incoming.pending or pending():  # an exception would say it, too, and cost as much as another record
                record = read(RECORD_BYTES)
                if not record:  # close_notify
                    end = anyio.EndOfStream()
                    break
                records.append(record)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            end = self._fail(error)
        return b"".join(records), end

    def _fail(self, error: ssl.SSLError) -> anyio.BrokenResourceError:
        """Send nothing more; return the error to raise."""
        self._error = error
        broken = anyio.BrokenResourceError()
        broken.__cause__ = error
        return broken

    async def send(self, item: bytes) -> None:
        """See `DirectStream`."""
        rest = memoryview(item)[self._encrypted_ahead :]
        self._encrypted_ahead = 0
        await self._send_encrypted()
        while rest:
            rest = rest[await self._encrypt(rest[:ENCRYPT_BYTES]) :]
            await self._send_encrypted()

    async def _encrypt(self, data: memoryview) -> int:
        """Encrypt some bytes; return their number."""
        while True:
            try:
                return self._ssl_object.write(data)
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as error:
                raise self._fail(error) from error
            # With TLS 1.2, the peer may have begun another handshake. Its messages are handled while receiving.
            self._has_received = anyio.Event()
            await self._send_encrypted()
            if self._has_ended:
                raise anyio.BrokenResourceError
            await self._has_received.wait()
            self._has_received = None

    async def _send_encrypted(self) -> None:
        if self._is_sending or self._error is not None:
            raise anyio.BrokenResourceError from self._error
        while data := self._unsent + self._outgoing.read():
            self._unsent = b""
            self._is_sending = True
            await self.below.send(data)
            self._is_sending = False

    def send_nowait(self, item: bytes) -> int:
        """See `DirectStream`."""
        sent = 0
        while sent < len(item):
            if self._unsent or self._is_sending or self._error is not None:
                break
            try:
                count = self._ssl_object.write(item[sent : sent + ENCRYPT_BYTES])
            except ssl.SSLError:
                break
            encrypted = self._outgoing.read()
            accepted = self.below.send_nowait(encrypted)
            if accepted < len(encrypted):
                # These bytes do not count as sent, so that `send` is called, which sends the rest of what they have become.
                self._unsent = encrypted[accepted:]
                self._encrypted_ahead = count
                break
            sent += count
        return sent

    async def aclose(self) -> None:
        """Close it at once. A checkpoint."""
        await self.below.aclose()


def _do_nothing() -> None:
    pass
