"""`connect`: a native connection for the duration of a block."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from .._interrupts import protect_from_interrupt
from .._protocol._addresses import read_addresses
from .._tasks import background_tasks, block_of_one_task
from .._usage import explain_options
from ._native_connection import NativeConnection
from ._options import MAX_PENDING_BYTES, FileSecret, Options, Secret, Sign, TLSContext
from ._session import Session

_EVENTS = "write 'with nc.events() as events:' and in it 'async for event in events:'"
_DEADLINE = "deadlines are the caller's; write 'with anyio.fail_after(2):'"
_NATS_PY_HINTS = {
    "user_credentials": "write credentials=...",
    "nkeys_seed": "write nkey_seed=..., which takes the path of the file",
    "nkeys_seed_str": "write nkey_seed=..., which takes the seed as well",
    "user_jwt_cb": "write jwt=..., which takes a function as well",
    "signature_cb": "write sign=...",
    "ssl": "write tls=..., an ssl.SSLContext",
    "tls_handshake_first": "write tls_first=True",
    "no_echo": "write echo=False",
    "dont_randomize": "write shuffle=False",
    "allow_reconnect": "write reconnect=...",
    "reconnect_time_wait": "write reconnect_wait=... and max_reconnect_wait=...",
    "max_reconnect_attempts": "write max_reconnect_rounds=...; there is no limit without it",
    "pending_size": "write max_pending_bytes=...",
    "flusher_queue_size": "senders wait while too much is on its way; leave it out",
    "flush_timeout": f"{_DEADLINE} around flush",
    "drain_timeout": f"{_DEADLINE} around the block",
    "error_cb": _EVENTS,
    "disconnected_cb": _EVENTS,
    "reconnected_cb": _EVENTS,
    "closed_cb": _EVENTS,
    "lame_duck_mode_cb": _EVENTS,
    "discovered_server_cb": "read nc.servers",
    "reconnect_to_server_handler": "servers are tried in turn; leave it out",
    "skip_subject_validation": "publish checks subjects; leave it out",
    "ws_connection_headers": "WebSocket goes through natsery.adapt or natsery.bridge",
    "timeout": "write connect_timeout=..., for each server",
    "url": "give the URL as the first argument",
}


@explain_options(_NATS_PY_HINTS)
@block_of_one_task("natsery.connect", NativeConnection.aclose)
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
    tls: TLSContext | bool = False,
    tls_hostname: str | None = None,
    tls_first: bool = False,
    inbox_prefix: str = "_INBOX",
    echo: bool = True,
    verbose: bool = False,
    pedantic: bool = False,
    shuffle: bool = True,
    connect_timeout: float = 2.0,
    retry_first_connect: bool = False,
    ignore_discovered_servers: bool = False,
    reconnect: bool = True,
    credentials_grace: float = 30.0,
    reconnect_wait: float = 0.1,
    max_reconnect_wait: float = 10.0,
    max_reconnect_rounds: int | None = None,
    ping_interval: float = 30.0,
    max_outstanding_pings: int = 2,
    max_pending_bytes: int = MAX_PENDING_BYTES,
    max_control_line: int = 4096,
) -> AsyncIterator[NativeConnection]:
    """Connect to NATS for the duration of a block::

        async with natsery.connect("nats://127.0.0.1:4222") as nc:
            await nc.publish("greetings", b"hello")

    The block is entered when a server has accepted the connection. If the network or the server fails, the connection
    reconnects, to the same or another server, and restores all subscriptions; ``nc.events()`` reports this. Leaving the
    block closes the connection; what was sent before has up to two seconds to reach the server.

    Args:
        servers: a URL, several URLs separated by commas, or a sequence of URLs: ``nats://host:port``, ``tls://host``,
            ``nats://user:password@host``, ``nats://token@host`` or just ``host:port``. Each address of a host name is tried
            like a server of its own, the next one as soon as one has failed or has not answered for a quarter of a second.
            Servers that the cluster announces are used as well. What did not answer last time is tried last.
        name: the name of this connection in the server's monitoring.
        user: a user name; requires ``password``. This and every other credential can also be a function, async or not, that
            returns it. Functions are called and files are read for every network connection.
        password: the password of ``user``.
        token: an authentication token.
        credentials: the path of a credentials file (JWT and seed), or a function that returns the text of one. Requires
            the extra ``nkeys``.
        nkey_seed: the nkey of a user: a seed (``SU…``), the path of a file that contains one, or a function that returns
            one. Requires the extra ``nkeys``.
        nkey: the public key (``U…``) of a user whose private key is kept elsewhere; requires ``sign``.
        jwt: the JWT of a user; requires ``sign``.
        sign: a function, async or not, that takes the server's nonce and returns the 64 bytes of its Ed25519 signature.
        tls: an SSL context, or true for the default one, which trusts the system's certificate authorities, or a function,
            async or not, that returns a context, called for every network connection. TLS is then required: nothing, not
            even CONNECT, is sent to a server that does not offer it. If the server requires TLS, it is used in any case.
        tls_hostname: the host name that the server's certificate must match, if it differs from the one in the URL.
        tls_first: start with the TLS handshake, before the server has sent INFO.
        inbox_prefix: the prefix of reply subjects.
        echo: whether to receive messages that this connection itself has published.
        verbose: make the server acknowledge every command with ``+OK``.
        pedantic: make the server check subjects strictly.
        shuffle: try servers, and the addresses of a host name, in random order instead of the given one.
        connect_timeout: seconds allowed for connecting to one address of a server, including all handshakes, and for
            looking a host name up.
        retry_first_connect: keep trying if no server can be reached at first, instead of raising.
        ignore_discovered_servers: use only the given servers, and not those that a server names in its INFO.
        reconnect: whether to reconnect; if false, the connection closes when it breaks.
        credentials_grace: seconds for which reconnecting goes on although a server refuses the credentials, or they or the
            context for TLS cannot be had because a function raises or a file cannot be read. Each failure is an ``error``
            event; after that time, the next one closes the connection. 0 closes it at the first, ``math.inf`` never. At the
            first connect, such failures are raised at once.
        reconnect_wait: maximum seconds to wait before the first round through all servers. The maximum doubles with every
            round, and each wait is a random part of it.
        max_reconnect_wait: upper limit of that maximum, in seconds.
        max_reconnect_rounds: number of rounds after which the connection gives up and closes; unlimited by default.
        ping_interval: seconds between checks that the server still responds.
        max_outstanding_pings: number of unanswered PINGs after which the connection counts as lost. A frozen server is
            detected after at most this number plus one intervals, no matter how much is waiting to be sent.
        max_pending_bytes: bytes of messages that may wait while no server is connected; beyond that, sending raises
            `OutboundBufferError`.
        max_control_line: the ``max_control_line`` of the servers' configuration. Subjects that would exceed it are refused,
            because the server would close the connection.

    Raises:
        ConfigError: an option is invalid, or a credentials file cannot be read. The error does not contain secrets.
        Exception: raised by a function for credentials or for TLS.
        AuthorizationError: a server refuses the credentials.
        SecureConnectionError: TLS is required but cannot be established.
        ConnectError: no server can be reached; contains the error of each one.

    The connection closes by itself if the credentials fail for longer than ``credentials_grace``, or if
    ``max_reconnect_rounds`` is exhausted. Whatever needs the connection then raises `ConnectionClosedError`;
    ``nc.wait_closed()`` waits for that.

    **Cancellation:** while connecting, everything is cleaned up. In the block, it ends the block and closes the connection.

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
        ignore_discovered_servers=ignore_discovered_servers,
        reconnect=reconnect,
        credentials_grace=credentials_grace,
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
