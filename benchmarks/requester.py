"""Sends echo requests to one subject over a bare socket and prints what came of them as JSON.

It uses no NATS library and no event loop, so that its own cost stays small beside that of the service it measures.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import signal
import socket
import time
from urllib.parse import urlsplit

PATTERN = b"0123456789abcdef"
LOST_AFTER_NS = 10_000_000_000
OVERDUE_AFTER_NS = 100_000_000  # from then on another request takes its place, so that losses do not end the load
ANSWERED, REFUSED, FAILED = "answered", "refused", "failed"


class Wire:
    """A connection to nats-server that can do requests and nothing else."""

    def __init__(self, url: str, payload: bytes) -> None:
        self._payload = payload
        # What follows the number in each request.
        self._rest = b" %d\r\n%b\r\n" % (len(payload), payload)
        address = urlsplit(url)
        self._socket = socket.create_connection((address.hostname, address.port), 5)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._inbox = f"_INBOX.{os.getpid()}x{time.monotonic_ns()}."
        # Numbers of one width, so that all good replies are of one length.
        echo = b"MSG %b%b 1 %d\r\n%b\r\n"
        self._echo_size = len(echo % (self._inbox.encode(), b"%09d" % 0, len(payload), payload))
        # What follows the first bytes is skipped, which takes no time whatever its length.
        start = payload[: len(PATTERN)]
        pattern = rb"%b(?s:.{%d})" % (re.escape(start), len(payload) - len(start))
        self._echo = re.compile(echo % (re.escape(self._inbox).encode(), rb"(\d{9})", len(payload), pattern))
        self._unparsed = b""
        self._await(b"\r\n")  # what comes before INFO may be taken for a TLS handshake
        options = {"verbose": False, "pedantic": False, "headers": True, "no_responders": True, "name": "requester"}
        self._socket.sendall(f"CONNECT {json.dumps(options)}\r\nSUB {self._inbox}* 1\r\nPING\r\n".encode())
        self._await(b"PONG\r\n")
        self._socket.settimeout(0.05)
        self._sending = self._socket.dup()  # with a time-out of its own: much takes longer
        self._sending.settimeout(10)

    def _await(self, end: bytes) -> None:
        """Wait for what ends like that, and forget it."""
        unread = b""
        while not unread.endswith(end):
            chunk = self._socket.recv(65_536)
            if not chunk:
                raise ConnectionError(f"nats-server closed the connection: {unread!r}")
            unread += chunk

    def send(self, subject: str, numbers: range) -> None:
        """Send one request for each number; the number ends its reply subject."""
        start, rest = f"PUB {subject} {self._inbox}".encode(), self._rest
        self._sending.sendall(b"".join([b"%b%09d%b" % (start, number, rest) for number in numbers]))

    def receive(self) -> list[tuple[int, str]]:
        """The numbers and outcomes of the replies in the next chunk, or nothing after 50 ms."""
        try:
            chunk = self._socket.recv(262_144)
        except TimeoutError:
            return []
        if not chunk:
            raise ConnectionError("nats-server closed the connection")
        data = self._unparsed + chunk if self._unparsed else chunk
        count, rest = divmod(len(data), self._echo_size)
        numbers = self._echo.findall(data, 0, len(data) - rest)
        if len(numbers) == count:  # then there is nothing else between them
            self._unparsed = data[len(data) - rest :]
            return [(int(number), ANSWERED) for number in numbers]
        return self._read(data)

    def _read(self, data: bytes) -> list[tuple[int, str]]:
        """The numbers and outcomes of whatever replies there are."""
        inbox_length = len(self._inbox)
        replies: list[tuple[int, str]] = []
        at = 0
        while (line_end := data.find(b"\r\n", at)) >= 0:
            body = line_end + 2
            if data.startswith(b"MSG ", at):
                subject, _, size = data[at + 4 : line_end].split()
                following = body + int(size) + 2
                if following > len(data):
                    break
                outcome = ANSWERED if data[body : following - 2] == self._payload else FAILED
                replies.append((int(subject[inbox_length:]), outcome))
            elif data.startswith(b"HMSG ", at):
                subject, _, header_size, size = data[at + 5 : line_end].split()
                following = body + int(size) + 2
                if following > len(data):
                    break
                headers = data[body : body + int(header_size)]
                replies.append((int(subject[inbox_length:]), REFUSED if is_unavailable(headers) else FAILED))
            else:
                following = body
                self._obey(data[at:line_end])
            at = following
        self._unparsed = data[at:]
        return replies

    def _obey(self, line: bytes) -> None:
        if line == b"PING":
            self._sending.sendall(b"PONG\r\n")
        elif line.startswith(b"-ERR"):
            raise ConnectionError(line.decode())


def is_unavailable(headers: bytes) -> bool:
    """Whether it is a 503: of the server (no responders) or of a service that is stopping or full."""
    return headers.startswith(b"NATS/1.0 503") or b"Nats-Service-Error-Code: 503" in headers


def run(wire: Wire, subject: str, count: int, outstanding: int, must_stop: list[bool]) -> dict[str, float]:
    """Keep requests under way until ``count`` of them (0: no limit) or a stop, then wait for the rest.

    A second stop says that nothing can come any more but what is in the socket: the rest is lost.
    """
    sent_at: dict[int, int] = {}
    overdue: dict[int, int] = {}
    # With a count none takes the place of an overdue one: too many large ones at once would be too much for what nats-server
    # keeps for a client. A loss then holds its place until it counts as one.
    overdue_after_ns = LOST_AFTER_NS if count else OVERDUE_AFTER_NS
    latencies: list[int] = []
    outcomes = {ANSWERED: 0, REFUSED: 0, FAILED: 0}
    issued = lost = unexpected = 0
    now_ns = time.perf_counter_ns
    cpu_start = cpu_seconds()
    start = now_ns()
    while True:
        room = 0 if must_stop else outstanding - len(sent_at)
        if count:
            room = min(room, count - issued)
        if room > 0:
            numbers = range(issued, issued + room)
            sent_at.update(dict.fromkeys(numbers, now_ns()))
            wire.send(subject, numbers)
            issued += room
        elif not sent_at and not overdue:
            break
        replies = wire.receive()
        now = now_ns()
        for number, outcome in replies:
            sent = sent_at.pop(number, None) or overdue.pop(number, None)
            if sent is None:
                unexpected += 1
                continue
            outcomes[outcome] += 1
            latencies.append(now - sent)
        if len(must_stop) > 1 and not replies:
            lost += len(sent_at) + len(overdue)
            break
        while sent_at and now - sent_at[oldest := next(iter(sent_at))] > overdue_after_ns:
            overdue[oldest] = sent_at.pop(oldest)
        while overdue and now - overdue[oldest := next(iter(overdue))] > LOST_AFTER_NS:
            del overdue[oldest]
            lost += 1
    seconds = (now_ns() - start) / 1e9
    latencies.sort()
    return {
        "seconds": seconds,
        "requests": issued,
        "requests_per_second": issued / seconds,
        "p50_us": percentile(latencies, 0.5),
        "p99_us": percentile(latencies, 0.99),
        "p999_us": percentile(latencies, 0.999),
        "errors": outcomes[REFUSED] + outcomes[FAILED] + lost,
        **outcomes,
        "lost": lost,
        "unexpected": unexpected,
        "own_cpu_us_per_request": (cpu_seconds() - cpu_start) * 1e6 / max(issued, 1),
    }


def percentile(sorted_ns: list[int], part: float) -> float:
    """The time within which that part of the requests was answered, in microseconds."""
    return sorted_ns[int(len(sorted_ns) * part)] / 1000 if sorted_ns else 0.0


def cpu_seconds() -> float:
    """Processor time of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="such as nats://127.0.0.1:4222")
    parser.add_argument("subject")
    parser.add_argument(
        "--count",
        type=int,
        default=10_000,
        help="requests to send; 0: until SIGTERM, a second one ends the wait (%(default)s)",
    )
    parser.add_argument("--outstanding", type=int, default=64, help="requests under way at a time (%(default)s)")
    parser.add_argument("--payload", type=int, default=16, help="bytes in each request (%(default)s)")
    parser.add_argument("--body", help="what is in each request instead, where any bytes will not do")
    arguments = parser.parse_args()
    must_stop: list[bool] = []
    signal.signal(signal.SIGTERM, lambda *_: must_stop.append(True))
    size = arguments.payload
    payload = (PATTERN * (size // len(PATTERN) + 1))[:size] if arguments.body is None else arguments.body.encode()
    wire = Wire(arguments.url, payload)
    print(json.dumps(run(wire, arguments.subject, arguments.count, arguments.outstanding, must_stop)))


if __name__ == "__main__":
    main()
