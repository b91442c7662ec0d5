"""`connect`: a connection to NATS as the length of a block."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from .._interrupts import protect_from_interrupt
from .._protocol._addresses import read_addresses
from .._tasks import background_tasks
from ._native_connection import NativeConnection
from ._options import MAX_PENDING_BYTES, FileSecret, Options, Secret, Sign
from ._session import Session


@asynccontextmanager
async def connect(
    servers: str | Sequence[str] = "nats://127.0.0.1:4222",
    *,
    name: str | None = None,
    user: Secret | None = None,
    password: Secret | None = None,
    token: Secret | None = None,
    credentials: FileSecret | None = None,
    nkey_seed: FileSecret | None = None,
    nkey: str | None = None,
    jwt: Secret | None = None,
    sign: Sign | None = None,
    tls: ssl.SSLContext | bool = False,
    tls_hostname: str | None = None,
    tls_first: bool = False,
    inbox_prefix: str = "_INBOX",
    echo: bool = True,
    verbose: bool = False,
    pedantic: bool = False,
    shuffle: bool = True,
    connect_timeout: float = 2.0,
    retry_first_connect: bool = False,
    reconnect: bool = True,
    reconnect_wait: float = 0.1,
    max_reconnect_wait: float = 10.0,
    max_reconnect_rounds: int | None = None,
    ping_interval: float = 30.0,
    max_outstanding_pings: int = 2,
    max_pending_bytes: int = MAX_PENDING_BYTES,
    max_control_line: int = 4096,
) -> AsyncIterator[NativeConnection]:
    """Connect to NATS for the length of a block::

        async with natsery.connect("nats://127.0.0.1:4222") as nc:
            await nc.publish("greetings", b"hello")

    The block begins when a server has accepted the connection. When the network or the server fails, the connection
    finds a server again and makes every subscription anew; ``nc.events()`` tells of it. Leaving the block closes it:
    what was sent before gets two seconds to reach the server.

    Args:
        servers: one URL, several with commas between, or a sequence: ``nats://host:port``, ``tls://host``,
            ``nats://user:password@host``, ``nats://token@host`` or plain ``host:port``. The servers that these tell of
            are used as well.
        name: what the server's monitoring calls this connection.
        user: a user's name, with ``password``. This and every other credential may be a function, async or not, that gives
            it; functions and files are read again for every network connection.
        password: the user's password.
        token: a token.
        credentials: the path of a credentials file (JWT and seed), or a function that gives the text of one. Needs the
            extra ``nkeys``.
        nkey_seed: a user's nkey: the seed itself (``SU…``), the path of a file with it, or a function that gives it. Needs
            the extra ``nkeys``.
        nkey: the public key (``U…``) of a user whose private key is elsewhere, with ``sign``.
        jwt: a user's JWT, with ``sign``.
        sign: a function, async or not, that takes a server's nonce and gives the 64 bytes of its Ed25519 signature.
        tls: a context, or true for one with the system's authorities. TLS is then a must: a server that does not offer it
            gets nothing, not even CONNECT. A server that requires TLS gets it in any case.
        tls_hostname: the name that the server's certificate must have, if it is not the host of the URL.
        tls_first: begin with the TLS handshake, before the server's INFO.
        inbox_prefix: how reply subjects begin.
        echo: whether to receive what this connection itself publishes.
        verbose: have the server answer every command with ``+OK``.
        pedantic: have the server check subjects strictly.
        shuffle: try servers in a random order rather than the given one.
        connect_timeout: seconds that one server gets, from the first packet to the end of the handshake.
        retry_first_connect: go on trying when no server can be reached at the start, instead of raising.
        reconnect: whether to find a server again; if not, the connection closes when it breaks.
        reconnect_wait: seconds of pause, at most, before the first round through all servers; it doubles every round. Each
            pause is shortened at random.
        max_reconnect_wait: seconds that the pause grows to.
        max_reconnect_rounds: rounds after which the connection gives up and closes; without a limit if left out.
        ping_interval: seconds between looks at whether the server still answers.
        max_outstanding_pings: PINGs without an answer after which it counts as gone: at most this plus one intervals after
            it froze, however much is waiting to be sent.
        max_pending_bytes: bytes of messages that may wait while no server is there; more is refused with
            `OutboundBufferError`.
        max_control_line: what the servers are configured with; longer subjects are refused here, for the server would
            close the connection over them.

    Raises:
        ConfigError: an option breaks a rule, or a file of credentials cannot be read. Secrets are not shown.
        AuthorizationError: a server refuses the credentials.
        SecureConnectionError: TLS is wanted and cannot be had.
        ConnectError: no server can be reached; it says of each one why.

    A connection that closes by itself, because a server refuses the credentials twice in a row or ``max_reconnect_rounds``
    is used up, raises `ConnectionClosedError` from whatever is called next; ``nc.wait_closed()`` waits for that.

    **Cancellation:** while connecting, nothing is left. Later, it ends the block as its end does.

    Source: NATS client protocol.
    """
    options = Options(
        addresses=tuple(read_addresses(servers)),
        name=name,
        user=user,
        password=password,
        token=token,
        credentials=credentials,
        nkey_seed=nkey_seed,
        nkey=nkey,
        jwt=jwt,
        sign=sign,
        tls=tls,
        tls_hostname=tls_hostname,
        tls_first=tls_first,
        inbox_prefix=inbox_prefix,
        echo=echo,
        verbose=verbose,
        pedantic=pedantic,
        shuffle=shuffle,
        connect_timeout=connect_timeout,
        retry_first_connect=retry_first_connect,
        reconnect=reconnect,
        reconnect_wait=reconnect_wait,
        max_reconnect_wait=max_reconnect_wait,
        max_reconnect_rounds=max_reconnect_rounds,
        ping_interval=ping_interval,
        max_outstanding_pings=max_outstanding_pings,
        max_pending_bytes=max_pending_bytes,
        max_control_line=max_control_line,
    )
    protect_from_interrupt(
        Session.run, NativeConnection._open, NativeConnection._run, Session._write, Session._keep_alive
    )
    connection = NativeConnection(options)
    async with background_tasks() as tasks:
        try:
            await connection._open(tasks)
            yield connection
        finally:
            await connection._finish()  # noqa: ASYNC102  # bounded by itself
