"""Compares natsery with other implementations of NATS services: echo of 16 bytes, in alternating runs.

Only the ratios mean something on another machine: each is the median over the runs of what a peer measured divided by
what the `micro` module of nats-py measured in the same run.
"""

from __future__ import annotations

import argparse
import os
import statistics
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from installations import UnavailableError
from peers import BASELINE, PEERS

from natsery.testing import NatsServer
from processes import (
    ServiceFailedError,
    finish_requester,
    progress,
    service,
    start_requester,
)

COUNTS = {1: 6_000, 64: 60_000, 512: 100_000}
WARM_UP = 5_000

MEASURES = {"requests_per_second": "req/s", "cpu_us": "CPU µs/req", "median_us": "median µs", "p99_us": "p99 µs"}

Results = dict[tuple[str, int], dict[str, float]]


@dataclass(frozen=True)
class Contestant:
    """A peer that works on this machine."""

    key: str
    title: str
    command: list[str]
    versions: str

    @property
    def subject(self) -> str:
        """Where its service listens."""
        return f"bench.{self.key}"


def find_contestants(keys: list[str], url: str, folder: Path) -> tuple[list[Contestant], dict[str, str]]:
    """Those that can be had, and the reasons why the others cannot."""
    found: list[Contestant] = []
    skipped: dict[str, str] = {}
    for key in keys:
        peer = PEERS[key]
        progress(f"preparing {peer.title}")
        try:
            command = peer.command(folder)
            with service(command, url, "bench.trial") as trial:
                found.append(Contestant(key, peer.title, command, trial.versions))
        except (UnavailableError, ServiceFailedError) as error:
            skipped[peer.title] = str(error)
    return found, skipped


def cpu_seconds(pid: int) -> float:
    """Processor time of all threads of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(pid: int, url: str, subject: str, outstanding: int, count: int) -> dict[str, float]:
    """One run of the requester against one service."""
    before = cpu_seconds(pid)
    result = finish_requester(start_requester(url, subject, count=count, outstanding=outstanding))
    result["cpu_us"] = (cpu_seconds(pid) - before) * 1e6 / count
    return result


def one_run(contestants: list[Contestant], url: str, number: int, scale: float) -> Results:
    """Fresh services, each measured in turn at each depth."""
    results: Results = {}
    order = contestants if number % 2 else contestants[::-1]
    with ExitStack() as stack:
        pids = {each.key: stack.enter_context(service(each.command, url, each.subject)).process.pid for each in order}
        for each in order:
            measure(pids[each.key], url, each.subject, 64, WARM_UP)
        for outstanding, count in COUNTS.items():
            for each in order:
                result = measure(pids[each.key], url, each.subject, outstanding, int(count * scale))
                results[each.key, outstanding] = result
                progress(
                    f"run {number}: {each.title}, {outstanding} outstanding: "
                    f"{result['requests_per_second']:.0f} req/s, "
                    f"CPU {result['cpu_us']:.0f} µs (requester {result['own_cpu_us_per_request']:.0f} µs), "
                    f"{result['errors']:.0f} errors"
                )
    return results


def short(value: float) -> str:
    """A decimal only where it says something."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def print_table(contestants: list[Contestant], runs: list[Results]) -> None:
    """Medians of the paired ratios, with the medians themselves behind them."""
    print(f"Ratios to {PEERS[BASELINE].title}, medians of {len(runs)} paired runs (in brackets: medians as measured)")
    print()
    print("| outstanding | peer | " + " | ".join(MEASURES.values()) + " | errors |")
    print("|---|---|" + "---|" * (len(MEASURES) + 1))
    for outstanding in COUNTS:
        for each in contestants:
            cells = []
            for measure_key in MEASURES:
                own = [run[each.key, outstanding][measure_key] for run in runs]
                theirs = [run[BASELINE, outstanding][measure_key] for run in runs]
                ratios = [one / (other or 1) for one, other in zip(own, theirs, strict=True)]
                cells.append(f"{statistics.median(ratios):.2f} ({short(statistics.median(own))})")
            errors = sum(run[each.key, outstanding]["errors"] for run in runs)
            print(f"| {outstanding} | {each.title} | {' | '.join(cells)} | {errors:.0f} |")


def print_versions(server: NatsServer, contestants: list[Contestant], skipped: dict[str, str]) -> None:
    """What was measured, and what was not and why."""
    print(f"\nnats-server: v{server.monitor('varz')['version']}, {os.cpu_count()} processors")
    for each in contestants:
        print(f"{each.title}: {each.versions}")
    for title, reason in skipped.items():
        print(f"{title}: skipped: {reason}")


def peer_keys(text: str) -> list[str]:
    """The baseline and the peers of a list with commas."""
    keys = text.split(",")
    unknown = [key for key in keys if key not in PEERS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not among {', '.join(PEERS)}")
    return [BASELINE, *(key for key in keys if key != BASELINE)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=peer_keys, default=list(PEERS), help=f"some of {','.join(PEERS)} (all)")
    parser.add_argument("--runs", type=int, default=3, help="alternating runs (%(default)s)")
    parser.add_argument("--scale", type=float, default=1.0, help="times as many requests in each (%(default)s)")
    parser.add_argument("--folder", type=Path, help="where to keep what is installed for peers (nowhere)")
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="natsery-peers-") as temporary, NatsServer() as server:
        folder = (arguments.folder or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        contestants, skipped = find_contestants(arguments.peers, server.url, folder)
        if PEERS[BASELINE].title in skipped:
            raise SystemExit(f"nothing to compare with: {skipped[PEERS[BASELINE].title]}")
        runs = [one_run(contestants, server.url, number, arguments.scale) for number in range(1, arguments.runs + 1)]
        print_table(contestants, runs)
        print_versions(server, contestants, skipped)


if __name__ == "__main__":
    main()
