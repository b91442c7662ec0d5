"""A NATS server for one client that speaks only while the client waits, so that every run takes the same steps.

It greets, answers PINGs and requests, sends requests to a service and messages to a subscription; it is no use otherwise.
What comes in bursts is sent as one, once everything that the last one called for has come.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

PAYLOAD = b"0123456789abcdef"
ECHO, READY, NEXT, OUT, STOP = "echo", "ready", "next", "out", "stop"
"""Subjects: to answer or be answered with the same; of a service that is live; of a subscriber that wants a burst of
messages; of what is published and nobody wants; of the end."""

COMMAND = re.compile(rb"(\S+) ?([^\r]*)\r\n")
INFO = {"server_id": "LOCKSTEP", "version": "2.11.0", "proto": 1, "headers": True, "max_payload": 1 << 20}
SECONDS = 600
POLL_SECONDS = 0.0001


class ClientGoneError(Exception):
    """The client has closed the connection."""


class LockstepServer:
    """Listens from when it is made on; `serve` is for a thread, which ends with the client.

    Args:
        burst: messages that are sent at a time.
        rounds: how often a service gets a burst of requests.
        tls: for a server with TLS.
    """

    def __init__(self, burst: int, rounds: int, tls: ssl.SSLContext | None = None) -> None:
        self._burst = burst
        self._rounds = rounds
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(SECONDS)
        self.url = f"nats://127.0.0.1:{self._listener.getsockname()[1]}"
        self._sids: dict[str, bytes] = {}
        self._replies: list[bytes] = []
        self._answers = 0

    def serve(self, pid: int) -> None:
        """Serve the client, whose process this is."""
        try:
            wire, _ = self._listener.accept()
        except OSError:
            return  # closed: whatever it was, it needs no server
        with wire:
            wire.settimeout(SECONDS)
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            wire.sendall(b"INFO %b\r\n" % json.dumps({**INFO, "tls_required": self._tls is not None}).encode())
            try:
                with wire if self._tls is None else self._tls.wrap_socket(wire, server_side=True) as secure:
                    self._converse(secure, pid)
            except (ClientGoneError, ConnectionError, ssl.SSLError):
                return  # the client's exit status says whether that was right

    def close(self) -> None:
        """Listen no longer, also if no client has come."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._listener.close()

    def _converse(self, wire: socket.socket, pid: int) -> None:
        """Read, and say what is due, until the client has gone."""
        unread = b""
        while True:
            chunk = wire.recv(65_536)
            if not chunk:
                raise ClientGoneError
            unread += chunk
            commands, unread = _split(unread)
            said = b"".join(self._reactions(commands))
            if said:
                _wait_asleep(pid)
                wire.sendall(said)

    def _reactions(self, commands: list[tuple[bytes, list[str]]]) -> Iterator[bytes]:
        for name, arguments in commands:
            if name == b"PING":
                yield b"PONG\r\n"
            elif name == b"SUB":
                self._sids[arguments[0]] = arguments[-1].encode()
            elif name == b"PUB":
                yield from self._published(*arguments[:-1])

    def _published(self, subject: str, reply: str = "") -> Iterator[bytes]:
        """What a message from the client calls for."""
        if subject == ECHO:
            self._replies.append(self._message(reply, self._sid_of(reply)))
            if len(self._replies) == self._burst:
                yield b"".join(self._replies)
                self._replies.clear()
        elif subject == NEXT:
            yield self._message(ECHO, self._sids[ECHO]) * self._burst
        elif subject == READY:
            yield self._requests()
        elif subject.startswith("r."):
            self._answers += 1
            if self._answers % self._burst == 0:
                is_over = self._answers == self._burst * self._rounds
                yield self._message(STOP, self._sids[STOP]) if is_over else self._requests()

    def _requests(self) -> bytes:
        """A burst for the service."""
        sid = self._sids[ECHO]
        return b"".join(self._message(ECHO, sid, b"r.%03d " % number) for number in range(self._burst))

    def _sid_of(self, reply: str) -> bytes:
        """The subscription for replies."""
        return next(
            sid for subject, sid in self._sids.items() if subject[-1] in "*>" and reply.startswith(subject[:-1])
        )

    @staticmethod
    def _message(subject: str, sid: bytes, reply: bytes = b"") -> bytes:
        return b"MSG %b %b %b%d\r\n%b\r\n" % (subject.encode(), sid, reply, len(PAYLOAD), PAYLOAD)


def _split(data: bytes) -> tuple[list[tuple[bytes, list[str]]], bytes]:
    """The commands that have come whole, with their arguments, and the rest."""
    commands = []
    at = 0
    while (command := COMMAND.match(data, at)) is not None:
        end = command.end()
        name, arguments = command[1], command[2].decode().split()
        if name in (b"PUB", b"HPUB"):
            end += int(arguments[-1]) + len(b"\r\n")
            if end > len(data):
                break
        commands.append((name, arguments))
        at = end
    return commands, data[at:]


def _wait_asleep(pid: int) -> None:
    """Wait until the client waits."""
    # Otherwise it would depend on the moment whether it finds the next bytes there or has to wait for them.
    status = Path(f"/proc/{pid}/stat")
    try:
        while status.read_text().rpartition(") ")[2][0] != "S":
            time.sleep(POLL_SECONDS)
    except OSError as error:
        raise ClientGoneError from error
