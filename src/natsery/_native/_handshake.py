"""The handshake: a network connection to one server, from the first byte to the PONG that accepts CONNECT."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from socket import gaierror
from typing import Any, final

import anyio
from anyio.abc import ByteStream, SocketAttribute, SocketStream
from anyio.streams.tls import TLSStream

from .._backends import is_trio
from .._backends._direct_stream import DirectStream
from .._backends._sockets import ConnectedSocket
from .._backends._tls_stream import TlsStream, state_of
from .._errors import AuthorizationError, ConnectionLostError, NatseryError, ProtocolError, SecureConnectionError
from .._protocol import _commands
from .._protocol._addresses import Address, Target
from .._protocol._parser import ErrorEvent, Event, InfoEvent, Parser, Signal
from .._protocol._server_errors import server_error
from .._protocol._server_info import ServerInfo, read_info
from .._version import __version__
from ._authentication import authenticate, credentials_needed, tls_context
from ._options import Options
from ._secrets import Secrets

RECEIVE_BYTES = 64 * 1024

_INFO_HINT = "INFO, which a server that begins with TLS (tls_first) does not send"

_SECRETS = ("pass", "auth_token", "jwt", "sig")
"""Fields of CONNECT that no error shows."""

_CERTIFICATE_ALERTS = (
    "BAD_CERTIFICATE",
    "CERTIFICATE_EXPIRED",
    "CERTIFICATE_REQUIRED",
    "CERTIFICATE_REVOKED",
    "CERTIFICATE_UNKNOWN",
    "HANDSHAKE_FAILURE",  # the equivalent of CERTIFICATE_REQUIRED in TLS 1.2
    "UNKNOWN_CA",
    "UNSUPPORTED_CERTIFICATE",
)

_UNKNOWN_AUTHORITY = range(18, 22)
"""OpenSSL's codes of certificates that sign themselves, or whose issuer it does not find; Python has no names for them."""


@final
@dataclass
class Link:
    """A network connection that the server has accepted; the caller of `log_in` closes it."""

    target: Target
    stream: ByteStream | DirectStream
    socket: ConnectedSocket
    info: ServerInfo
    has_headers: bool
    """Whether CONNECT has claimed headers."""
    secrets: Secrets
    """What CONNECT has contained."""
    unread: bytes
    """What was received after the end of the handshake."""

    @property
    def address(self) -> Address:
        """The server."""
        return self.target.address

    async def close(self) -> None:
        """Give the network connection up, without waiting."""
        self.socket.shut_down()
        await anyio.aclose_forcefully(self.stream)


@final
@dataclass
class Greeting:
    """A network connection to a server that has said INFO, or shaken hands over TLS with ``tls_first``; see `log_in`."""

    target: Target
    stream: ByteStream
    handshake: _HandshakeStream
    seconds_left: float
    """Of ``connect_timeout``."""

    async def close(self) -> None:
        """Give the network connection up, without waiting."""
        self.handshake.socket.shut_down()
        await anyio.aclose_forcefully(self.stream)


async def greet(target: Target, options: Options) -> Greeting:
    """Connect to a server at one of its IP addresses, and wait for its first word.

    Raises:
        OSError: the server cannot be reached.
        SecureConnectionError: the TLS handshake of ``tls_first`` has failed.
        CredentialsUnavailableError: the context for TLS cannot be had.
        TimeoutError: it took longer than ``connect_timeout``.
        ConnectionLostError: the server closed the network connection.
        NatseryError: the server sent an error, or does not speak NATS.

    **Cancellation:** the network connection is closed.
    """
    progress = _Progress()
    with anyio.move_on_after(options.connect_timeout) as limit:
        stream = await _connect_tcp(target)
        handshake = _HandshakeStream(stream, ConnectedSocket(stream))
        greeting = Greeting(target, stream, handshake, 0)
        async with _closed_on_error(greeting):
            if options.tls_first:
                progress.waiting_for = "the TLS handshake"
                await handshake.encrypt(target.address, options)
            progress.waiting_for = "INFO" if options.tls_first else _INFO_HINT
            handshake.info = await handshake.receive_info()
            greeting.seconds_left = limit.deadline - anyio.current_time()
            return greeting
    raise progress.timeout(options)


async def log_in(greeting: Greeting, options: Options) -> Link:
    """Finish the handshake, with TLS and credentials as configured.

    Raises:
        SecureConnectionError: TLS is required and the server does not offer it, or the handshake has failed; no credentials
            were sent in clear.
        AuthorizationError: the server refuses the credentials.
        CredentialsUnavailableError: the credentials or the context for TLS cannot be had.
        TimeoutError, ConnectionLostError, NatseryError: as for `greet`.

    **Cancellation:** the network connection is closed.
    """
    progress = _Progress()
    with anyio.move_on_after(greeting.seconds_left):
        async with _closed_on_error(greeting):
            return await _log_in(greeting.handshake, greeting.target, options, progress)
    raise progress.timeout(options)


@asynccontextmanager
async def _closed_on_error(greeting: Greeting) -> AsyncIterator[None]:
    try:
        yield
    except (anyio.EndOfStream, anyio.BrokenResourceError) as error:
        await greeting.close()  # noqa: ASYNC120  # does not wait
        raise ConnectionLostError("the server ended the connection during the handshake") from error
    except ssl.SSLError as error:
        # With TLS 1.3, a server refuses the client's certificate only after the handshake has ended for the client.
        await greeting.close()  # noqa: ASYNC120  # does not wait
        raise SecureConnectionError(f"TLS with {greeting.target.address} failed: {_reason(error)}") from error
    except BaseException:
        await greeting.close()  # noqa: ASYNC102  # does not wait
        raise


async def _connect_tcp(target: Target) -> SocketStream:
    try:
        return await anyio.connect_tcp(*target.ip_port)
    except OSError as error:
        # anyio's error only says that the attempt has failed; the attempt's own error is its cause.
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        # The zone of an address may have to be resolved, and a resolver's numbers are not the system's.
        is_systems = bool(cause.errno) and not isinstance(cause, gaierror)
        refused = OSError(cause.errno, os.strerror(cause.errno or 0) if is_systems else cause.strerror or str(cause))
        refused.__cause__ = error
    raise refused


def direct_stream(stream: SocketStream | TLSStream) -> ByteStream | DirectStream:
    """Return a stream as a `DirectStream` where that is possible, and otherwise unchanged; only what is returned may be used."""
    if not isinstance(stream, TLSStream):
        return _direct_socket_stream(stream) or stream
    state = state_of(stream)
    if state is None:
        return stream
    assert isinstance(stream.transport_stream, SocketStream)
    below = _direct_socket_stream(stream.transport_stream)
    return stream if below is None else TlsStream(below, state)


def _direct_socket_stream(stream: SocketStream) -> DirectStream | None:
    if is_trio():
        from .._backends._trio_stream import TrioStream

        return TrioStream(stream, stream.extra(SocketAttribute.raw_socket))  # noqa: S610  # no Django
    from .._backends._asyncio_stream import take_over

    return take_over(stream)


def check_headers(info: ServerInfo, *, has_headers: bool) -> None:
    """Check what a server says of headers against what CONNECT has claimed because of its first INFO.

    Somebody on the way may have changed the INFO that came before TLS; the server would send messages without their headers.

    Raises:
        ProtocolError: they differ.
    """
    if info.headers and not has_headers:
        raise ProtocolError("the server supports headers, and its first INFO said that it does not")


@final
@dataclass
class _Progress:
    """The progress of a handshake, for the error when it times out."""

    waiting_for: str = "the network"

    def timeout(self, options: Options) -> TimeoutError:
        """Return the error."""
        return TimeoutError(
            f"gave up after {options.connect_timeout:g} s (connect_timeout), waiting for {self.waiting_for}"
        )


async def _log_in(handshake: _HandshakeStream, target: Target, options: Options, progress: _Progress) -> Link:
    address, info = target.address, handshake.info
    wants_tls = address.tls or bool(options.tls) or options.tls_first
    progress.waiting_for = "the TLS handshake"
    if not options.tls_first and (wants_tls or info.tls_required):
        if not (info.tls_required or info.tls_available):
            raise SecureConnectionError(f"TLS is wanted and {address} does not offer it; nothing secret was sent")
        await handshake.encrypt(address, options)
        # What was received in clear may come from another than the server. It must not say where to log in next time, and
        # what it says of headers is compared with the INFO that servers send after CONNECT. The nonce has to be taken from
        # it: servers send no other.
        info = replace(info, connect_urls=(), lame_duck=False)
    fields: dict[str, Any] = {
        "verbose": options.verbose,
        "pedantic": options.pedantic,
        "tls_required": wants_tls,
        "name": options.name or "",
        "lang": "python-natsery",
        "version": __version__,
        "protocol": 1,
        "echo": options.echo,
        "headers": info.headers,
        "no_responders": info.headers,
    }
    progress.waiting_for = "the credentials"
    with credentials_needed():
        credentials = await authenticate(options, address, info.nonce)
    handshake.secrets = Secrets(value for name, value in credentials.items() if name in _SECRETS)
    fields.update(credentials)
    progress.waiting_for = "the answer to CONNECT"
    await handshake.stream.send(_commands.connect(fields) + _commands.PING)
    return await handshake.receive_pong(target, info, has_headers=info.headers)


@final
class _HandshakeStream:
    """The stream during the handshake, read one event at a time.

    Attributes:
        stream: the stream.
        socket: the socket below it.
        info: the server's first INFO, once that was received.
        secrets: what was sent as credentials; no error shows it, should the other side echo it.
    """

    def __init__(self, stream: SocketStream, socket: ConnectedSocket) -> None:
        self.stream: SocketStream | TLSStream = stream
        self.socket: ConnectedSocket = socket
        self.info: ServerInfo = ServerInfo()
        self.secrets = Secrets()
        self._parser = Parser()
        self._unread = b""

    async def encrypt(self, address: Address, options: Options) -> None:
        """Perform the TLS handshake."""
        if self._unread or not self._parser.is_between_events:
            # What was received in clear must not be treated as if it had been received through TLS.
            raise SecureConnectionError(
                f"{address} sent more than INFO before the TLS handshake; nothing secret was sent"
            )
        with credentials_needed():
            context = await tls_context(options)
        hostname = options.tls_hostname or address.verify_as or address.host
        self.stream = await TLSStream.wrap(
            self.stream, hostname=hostname, ssl_context=context, standard_compatible=False
        )

    async def receive_info(self) -> ServerInfo:
        """Receive INFO, which must be the first event."""
        event = await self._receive()
        if isinstance(event, ErrorEvent):
            raise server_error(event.text)
        if not isinstance(event, InfoEvent):
            raise ProtocolError("a server must begin with INFO", repr(event).encode())
        return read_info(event.text)

    async def receive_pong(self, target: Target, info: ServerInfo, *, has_headers: bool) -> Link:
        """Receive the PONG that accepts CONNECT, and return the link."""
        error: NatseryError | None = None
        while True:
            try:
                event = await self._receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                if error is None:
                    raise
                raise error from None
            if event is Signal.PONG:
                check_headers(info, has_headers=has_headers)
                stream = direct_stream(self.stream)
                return Link(target, stream, self.socket, info, has_headers, self.secrets, self._unread)
            if event is Signal.PING:
                await self.stream.send(_commands.PONG)
            elif isinstance(event, InfoEvent):
                info = self._read_info(event.text)
            elif isinstance(event, ErrorEvent):
                error = server_error(event.text, self.secrets.hide)
                if isinstance(error, AuthorizationError):
                    raise AuthorizationError(error.text, str(target.address))
            elif event is not Signal.OK:
                raise self.secrets.hide_received(
                    ProtocolError("a server must answer CONNECT first", repr(event).encode())
                )

    def _read_info(self, text: bytes) -> ServerInfo:
        try:
            return read_info(text)
        except ProtocolError as error:
            shown = self.secrets.hide_received(error)
        raise shown  # outside of the `except` block, so that the other error is not its context

    async def _receive(self) -> Event:
        while True:
            # A line at a time, so that nothing behind the end of the handshake is parsed here.
            line, end, self._unread = (self._unread or await self.stream.receive(RECEIVE_BYTES)).partition(b"\n")
            for event in self._parser.feed(line + end):
                if isinstance(event, ProtocolError):
                    raise self.secrets.hide_received(event)
                return event


def _reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        text = f"its certificate is not accepted ({error.verify_message.rstrip('.')})"
        if error.verify_code in _UNKNOWN_AUTHORITY:
            text += "; name its authority in an ssl.SSLContext, or with --tls-ca"
        return text
    if error.reason == "WRONG_VERSION_NUMBER":
        return "what it answers is not TLS"
    reason = error.reason or str(error)
    _, is_alert, what = reason.partition("ALERT_")  # such as TLSV13_ALERT_CERTIFICATE_REQUIRED
    if not is_alert:
        return reason
    hint = "; it may want a certificate of this client, or another one" if what in _CERTIFICATE_ALERTS else ""
    return f"the server refuses it with the alert {what.lower().replace('_', ' ')!r}{hint}"
