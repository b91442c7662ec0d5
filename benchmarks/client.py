"""Compares natsery's client side with other clients: requests, publishing and receiving 16 bytes, in alternating runs.

Each measurement is in a process of its own. Requests go to one echo service: that of nats.go, or else natsery's. Only the
ratios mean something on another machine: each is the median over the runs of what a client measured divided by what
nats-py measured in the same run. nats-py, nats.js and nats.go have a time-out for each request; natsery has none unless
told.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from comparison import Contestant, keys_of, print_versions, ratio_cell
from installations import UnavailableError
from peers import BASELINE, CLIENTS, PEERS, PUBLISH, RECEIVE, REQUEST

from natsery.testing import NatsServer
from processes import ServiceFailedError, await_line, ended, progress, service, start

LIMIT_SECONDS = 120
RESPONDERS = ("nats-go", "native-asyncio")
ECHO = "bench.echo"

MEASURES = {"per_second": "per second", "cpu_us": "CPU µs each"}


@dataclass(frozen=True)
class Work:
    """What clients have to do."""

    name: str
    title: str
    count: int
    warm_up: int
    callers: int = 1

    def scaled(self, scale: float) -> Work:
        """More or less of it."""
        return replace(self, count=int(self.count * scale))


TRIAL = Work(REQUEST, "", 1, 1)
WORKS = (
    Work(REQUEST, "request, 1 caller", 5_000, 2_000),
    Work(REQUEST, "request, 64 callers", 40_000, 10_000, 64),
    Work(REQUEST, "request, 512 callers", 40_000, 10_000, 512),
    Work(PUBLISH, "publish", 100_000, 20_000),
    Work(RECEIVE, "receive", 100_000, 20_000),
)

Results = dict[tuple[str, str], dict[str, float]]


def open_responder(stack: ExitStack, url: str, folder: Path) -> Contestant:
    """The first of the echo services that can be had, live."""
    for key in RESPONDERS:
        try:
            command = PEERS[key].command(folder)
            versions = stack.enter_context(service(command, url, ECHO)).versions
        except (UnavailableError, ServiceFailedError) as error:
            progress(f"{PEERS[key].title}: {error}")
        else:
            return Contestant(key, f"the service that answers, {PEERS[key].title}", command, versions)
    raise SystemExit("no service can be had that answers")


def find_contestants(
    keys: list[str], url: str, folder: Path, deadlines: bool
) -> tuple[list[Contestant], dict[str, str]]:
    """Those that can be had, and the reasons why the others cannot."""
    found: list[Contestant] = []
    skipped: dict[str, str] = {}
    for key in keys:
        client = CLIENTS[key]
        progress(f"preparing {client.title}")
        try:
            command = client.command(folder) + (["--deadlines"] if deadlines and client.takes_deadlines else [])
            trial = Contestant(key, client.title, command, "")
            found.append(Contestant(key, client.title, command, measure(trial, TRIAL, url)[0]))
        except (UnavailableError, ServiceFailedError) as error:
            skipped[client.title] = str(error)
    return found, skipped


def feed(process: subprocess.Popen[str], url: str, subject: str, work: Work) -> None:
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


def measure(contestant: Contestant, work: Work, url: str) -> tuple[str, dict[str, float]]:
    """The versions of a client, and how it did in a fresh process."""
    subject = ECHO if work.name == REQUEST else contestant.subject
    numbers = [str(number) for number in (work.count, work.warm_up, work.callers)]
    with ended(start([*contestant.command, url, subject, work.name, *numbers])) as process:
        versions = await_line(process, "ready")
        if work.name == RECEIVE:
            feed(process, url, subject, work)
        process.wait(LIMIT_SECONDS)
        taken = json.loads(await_line(process, "done"))
    return versions, {
        "per_second": work.count / taken["seconds"],
        "cpu_us": taken["cpu_seconds"] * 1e6 / work.count,
    }


def one_run(contestants: list[Contestant], url: str, number: int, scale: float) -> Results:
    """Each at each work in turn."""
    results: Results = {}
    order = contestants if number % 2 else contestants[::-1]
    for work in WORKS:
        for each in order:
            if work.name in CLIENTS[each.key].works:
                _, result = measure(each, work.scaled(scale), url)
                results[each.key, work.title] = result
                progress(
                    f"run {number}: {each.title}, {work.title}: "
                    f"{result['per_second']:.0f} per second, CPU {result['cpu_us']:.1f} µs"
                )
    return results


def print_table(contestants: list[Contestant], runs: list[Results], deadlines: bool) -> None:
    """Medians of the paired ratios, with the medians themselves behind them."""
    requests = f"natsery's requests {'with' if deadlines else 'without'} deadlines"
    medians = f"medians of {len(runs)} paired runs (in brackets: medians as measured)"
    print(f"Ratios to {CLIENTS[BASELINE].title}: 16 bytes, {requests}, {medians}")
    print()
    print("| | client | " + " | ".join(MEASURES.values()) + " |")
    print("|---|---|" + "---|" * len(MEASURES))
    for work in WORKS:
        for each in contestants:
            if work.name in CLIENTS[each.key].works:
                cells = []
                for measure_key in MEASURES:
                    own = [run[each.key, work.title][measure_key] for run in runs]
                    theirs = [run[BASELINE, work.title][measure_key] for run in runs]
                    cells.append(ratio_cell(own, theirs))
                print(f"| {work.title} | {each.title} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--clients", type=keys_of(CLIENTS), default=list(CLIENTS), help=f"some of {','.join(CLIENTS)} (all)"
    )
    parser.add_argument("--runs", type=int, default=3, help="alternating runs (%(default)s)")
    parser.add_argument("--scale", type=float, default=1.0, help="times as much in each (%(default)s)")
    parser.add_argument("--deadlines", action="store_true", help="give each of natsery's requests a deadline of 10 s")
    parser.add_argument("--folder", type=Path, help="where to keep what is installed for others (nowhere)")
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="natsery-peers-") as temporary, NatsServer() as server, ExitStack() as stack:
        folder = (arguments.folder or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        responder = open_responder(stack, server.url, folder)
        contestants, skipped = find_contestants(arguments.clients, server.url, folder, arguments.deadlines)
        if CLIENTS[BASELINE].title in skipped:
            raise SystemExit(f"nothing to compare with: {skipped[CLIENTS[BASELINE].title]}")
        runs = [one_run(contestants, server.url, number, arguments.scale) for number in range(1, arguments.runs + 1)]
        print_table(contestants, runs, arguments.deadlines)
        print_versions(server, [responder, *contestants], skipped)


if __name__ == "__main__":
    main()
