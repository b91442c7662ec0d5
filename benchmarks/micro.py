"""Compares natsery with the `micro` module of nats-py: echo of 16 bytes, in alternating runs.

Only the ratios mean something on another machine: each is the median over the runs of what a peer measured divided by
what nats-py measured in the same run.
"""

from __future__ import annotations

import argparse
import os
import statistics
from contextlib import ExitStack
from pathlib import Path

from processes import finish_requester, nats_server, progress, service, start_requester

BASELINE = "nats-py"
PEERS = (BASELINE, "adapted", "uvloop", "bridged")
NAMES = {
    "nats-py": "nats-py micro (asyncio)",
    "adapted": "natsery adapted, asyncio",
    "uvloop": "natsery adapted, uvloop",
    "bridged": "natsery bridged, trio",
}
COUNTS = {1: 6_000, 64: 100_000, 512: 150_000}
WARM_UP = 5_000

MEASURES = {"requests_per_second": "req/s", "median_us": "median µs", "cpu_us": "CPU µs/req"}


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


def one_run(url: str, number: int, scale: float) -> dict[tuple[str, int], dict[str, float]]:
    """Fresh services, each measured in turn at each depth."""
    results: dict[tuple[str, int], dict[str, float]] = {}
    order = PEERS if number % 2 else PEERS[::-1]
    with ExitStack() as stack:
        pids = {peer: stack.enter_context(service(peer, url, f"bench.{peer}")).pid for peer in order}
        for peer in order:
            measure(pids[peer], url, f"bench.{peer}", 64, WARM_UP)
        for outstanding, count in COUNTS.items():
            for peer in order:
                result = measure(pids[peer], url, f"bench.{peer}", outstanding, int(count * scale))
                results[peer, outstanding] = result
                progress(
                    f"run {number}: {NAMES[peer]}, {outstanding} outstanding: "
                    f"{result['requests_per_second']:.0f} req/s, "
                    f"CPU {result['cpu_us']:.0f} µs (requester {result['own_cpu_us_per_request']:.0f} µs), "
                    f"{result['errors']:.0f} errors"
                )
    return results


def print_table(runs: list[dict[tuple[str, int], dict[str, float]]]) -> None:
    """Medians of the paired ratios, with the medians themselves behind them."""
    print(f"Ratios to {NAMES[BASELINE]}, medians of {len(runs)} paired runs (in brackets: medians as measured)")
    print()
    print("| outstanding | peer | " + " | ".join(MEASURES.values()) + " | p99 µs | errors |")
    print("|---|---|" + "---|" * (len(MEASURES) + 2))
    for outstanding in COUNTS:
        for peer in PEERS:
            cells = []
            for key in (*MEASURES, "p99_us"):
                own = [run[peer, outstanding][key] for run in runs]
                ratios = [run[peer, outstanding][key] / (run[BASELINE, outstanding][key] or 1) for run in runs]
                cells.append(f"{statistics.median(ratios):.2f} ({statistics.median(own):.0f})")
            errors = sum(run[peer, outstanding]["errors"] for run in runs)
            print(f"| {outstanding} | {NAMES[peer]} | {' | '.join(cells)} | {errors:.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="alternating runs (%(default)s)")
    parser.add_argument("--scale", type=float, default=1.0, help="times as many requests in each (%(default)s)")
    arguments = parser.parse_args()
    with nats_server() as url:
        print_table([one_run(url, number, arguments.scale) for number in range(1, arguments.runs + 1)])


if __name__ == "__main__":
    main()
