"""A NATS client on a blocking socket: for tests that must see every line that the server sends."""

from __future__ import annotations

import base64
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .bounds import HANG_SECONDS
from .operator_mode import Key, User


class RawClient:
    """Reads lines and writes bytes, and every wait has a bound."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._unread = b""
        self.info: dict[str, Any] = {}

    def read_line(self) -> str:
        """The next line, ``""`` at the end; an INFO is kept as well."""
        while b"\r\n" not in self._unread:
            try:
                chunk = self._socket.recv(65_536)
            except ConnectionResetError:
                chunk = b""
            if not chunk:
                return ""
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\r\n")
        if line.startswith(b"INFO "):
            self.info = json.loads(line[5:])
        return line.decode()

    def read_until(self, start: str) -> str:
        """The next line that begins so."""
        while not (line := self.read_line()).startswith(start):
            assert line, f"the server closed the connection before it said {start!r}"
        return line

    def send(self, text: str) -> None:
        self._socket.sendall(text.encode())

    def start_tls(self, context: ssl.SSLContext) -> None:
        self._socket = context.wrap_socket(self._socket, server_hostname="127.0.0.1")

    def log_in(self, **options: Any) -> str:
        """Send CONNECT with these options and a PING, and return the first line of the answer that is no INFO."""
        self.send(f"CONNECT {json.dumps({'verbose': False, 'pedantic': False, 'protocol': 1, **options})}\r\nPING\r\n")
        while (line := self.read_line()).startswith("INFO "):
            pass
        return line

    def log_in_as(self, user: User | Key) -> str:
        """The same with a user's JWT or a bare key, and the server's nonce signed."""
        who = {"jwt": user.jwt} if isinstance(user, User) else {"nkey": user.public}
        key = user.key if isinstance(user, User) else user
        signature = base64.urlsafe_b64encode(key.sign(self.info["nonce"].encode())).rstrip(b"=").decode()
        return self.log_in(**who, sig=signature)

    def close(self) -> None:
        self._socket.close()


@contextmanager
def raw_client(port: int, *, tls: ssl.SSLContext | None = None, handshake_first: bool = False) -> Iterator[RawClient]:
    """A client that has read the first INFO and, given ``tls``, has shaken hands; it has not logged in."""
    sock = socket.create_connection(("127.0.0.1", port), HANG_SECONDS)
    client = RawClient(sock)
    try:
        if tls is not None and handshake_first:
            client.start_tls(tls)
        client.read_until("INFO ")
        if tls is not None and not handshake_first:
            client.start_tls(tls)
        yield client
    finally:
        client.close()
        sock.close()
