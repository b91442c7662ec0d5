"""No service at all: echoes over a bare socket, in one thread, to show what is left to gain on a machine."""

from __future__ import annotations

import re
import socket
import sys
from urllib.parse import urlsplit

MESSAGE = re.compile(rb"MSG \S+ 1 (\S+) (\d+)\r\n")


def read_line(wire: socket.socket, unread: bytes) -> tuple[bytes, bytes]:
    """The next line, and what came with it."""
    while b"\r\n" not in unread:
        unread += wire.recv(65_536)
    line, _, rest = unread.partition(b"\r\n")
    return line, rest


def answers(data: bytes) -> tuple[list[bytes], bytes]:
    """The answers to what has come whole, and the rest."""
    found: list[bytes] = []
    at = 0
    while message := MESSAGE.match(data, at):
        reply, size = message.groups()
        end = message.end() + int(size) + 2
        if end > len(data):
            break
        found.append(b"PUB %b %b\r\n%b" % (reply, size, data[message.end() : end]))
        at = end
    if data.startswith(b"PING\r\n", at):
        found.append(b"PONG\r\n")
        at += len(b"PING\r\n")
    return found, data[at:]


def main() -> None:
    url, subject = sys.argv[1:]
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port)) as wire:
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire.sendall(b'CONNECT {"verbose":false,"pedantic":false,"headers":true}\r\n')
        wire.sendall(b"SUB %b q 1\r\nPING\r\n" % subject.encode())
        line, unread = b"", b""
        while line != b"PONG":
            line, unread = read_line(wire, unread)
        print(f"ready Python {sys.version.split()[0]}", flush=True)
        while data := wire.recv(65_536):
            found, unread = answers(unread + data)
            wire.sendall(b"".join(found))


if __name__ == "__main__":
    main()
