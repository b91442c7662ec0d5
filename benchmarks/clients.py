"""Measures natsery's client side beside other clients: requests, publishing and receiving 16 bytes.

Each measurement is in a process of its own. Requests go to one echo service: that of nats.go, or else natsery's. nats-py,
nats.js and nats.go have a time-out for each request; natsery has a deadline only where the caller sets one.
"""

from __future__ import annotations

import json
import socket
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from figures import Labels
from installations import UnavailableError
from lab import Contestant, Lab, in_turn
from peers import BASELINE, CLIENTS, PEERS, PUBLISH, RECEIVE, REQUEST

from natsery.testing import NatsServer
from processes import ServiceFailedError, await_line, ended, progress, service, start

LIMIT_SECONDS = 120
RESPONDERS = ("nats-go", "native-asyncio")
ECHO = "bench.echo"

HEADINGS = ("work", "client")
MEASURES = {"per_second": "per second", "cpu_us": "CPU µs each"}


@dataclass(frozen=True)
class Work:
    """What clients have to do."""

    name: str
    title: str
    count: int
    warm_up: int
    callers: int = 1

    def row(self, title: str) -> Labels:
        """Where its figures stand."""
        return (self.title, title)


TRIAL = Work(REQUEST, "", 1, 1)
WORKS = (
    Work(REQUEST, "request, 1 caller", 5_000, 2_000),
    Work(REQUEST, "request, 64 callers", 40_000, 10_000, 64),
    Work(REQUEST, "request, 512 callers", 40_000, 10_000, 512),
    Work(PUBLISH, "publish", 100_000, 20_000),
    Work(RECEIVE, "receive", 100_000, 20_000),
)


def measure_clients(lab: Lab) -> None:
    """Each at each work in turn, in a fresh process."""
    with NatsServer() as server, ExitStack() as stack:
        _open_responder(stack, lab, server.url)
        contestants = _find_contestants(lab, server.url)
        works = [(work, each) for work in WORKS for each in contestants if work.name in CLIENTS[each.key].works]
        rows = {work.row(each.title): work.row(CLIENTS[BASELINE].title) for work, each in works}
        table = lab.begin("clients", "Clients", HEADINGS, MEASURES, rows)
        for number in range(1, lab.runs + 1):
            run = table.begin_run()
            for work in WORKS:
                scaled = replace(work, count=lab.scaled(work.count), warm_up=lab.scaled(work.warm_up))
                for each in in_turn(contestants, number):
                    if work.name in CLIENTS[each.key].works:
                        _, result = _measure(each, scaled, server.url)
                        said = f"{result['per_second']:.0f} per second, CPU {result['cpu_us']:.1f} µs"
                        lab.record(number, run, work.row(each.title), result, said)


def _open_responder(stack: ExitStack, lab: Lab, url: str) -> None:
    """Have the first of the echo services that can be had answer requests."""
    for key in RESPONDERS:
        try:
            versions = stack.enter_context(service(PEERS[key].command(lab.folder), url, ECHO)).versions
        except (UnavailableError, ServiceFailedError) as error:
            progress(f"{PEERS[key].title}: {error}")
        else:
            lab.versions[f"the service that answers clients, {PEERS[key].title}"] = versions
            return
    raise SystemExit("no service can be had that answers")


def _find_contestants(lab: Lab, url: str) -> list[Contestant]:
    """Those that can be had."""

    def try_out(key: str) -> tuple[Contestant, str]:
        contestant = Contestant(key, CLIENTS[key].title, CLIENTS[key].command(lab.folder))
        return contestant, _measure(contestant, TRIAL, url)[0]

    admitted = [lab.admit(CLIENTS[key].title, lambda key=key: try_out(key)) for key in CLIENTS if key in lab.peers]
    return [each for each in admitted if each is not None]


def _feed(process: subprocess.Popen[str], url: str, subject: str, work: Work) -> None:
    """Publish what a client receives, as fast as the server takes it; what warms it up comes to an end before the rest."""
    message = b"PUB %b 16\r\n0123456789abcdef\r\n" % subject.encode()
    messages = message * work.count
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port)) as wire:
        wire.sendall(b'CONNECT {"verbose":false,"pedantic":false}\r\n' + message * work.warm_up)
        await_line(process, "warm")
        wire.sendall(messages)
        # Closing with something unread in the socket could take back what is not sent yet.
        process.wait(LIMIT_SECONDS)


def _measure(contestant: Contestant, work: Work, url: str) -> tuple[str, dict[str, float]]:
    """The versions of a client, and how it did in a fresh process."""
    subject = ECHO if work.name == REQUEST else contestant.subject
    numbers = [str(number) for number in (work.count, work.warm_up, work.callers)]
    with ended(start([*contestant.command, url, subject, work.name, *numbers])) as process:
        versions = await_line(process, "ready")
        if work.name == RECEIVE:
            _feed(process, url, subject, work)
        process.wait(LIMIT_SECONDS)
        taken = json.loads(await_line(process, "done"))
    return versions, {
        "per_second": work.count / taken["seconds"],
        "cpu_us": taken["cpu_seconds"] * 1e6 / work.count,
    }
