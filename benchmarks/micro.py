"""Compares natsery with other implementations of NATS services: an echo, in alternating runs.

Only the ratios mean something on another machine: each is the median over the runs of what a peer measured divided by
what the `micro` module of nats-py measured in the same run.
"""

from __future__ import annotations

import argparse
import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import trustme
from comparison import Contestant, keys_of, print_versions, ratio_cell
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
"""Requests in a measurement, from so many outstanding ones on."""

WARM_UP = 5_000
MAX_PAYLOAD = 1_048_576

MEASURES = {"requests_per_second": "req/s", "cpu_us": "CPU µs/req", "median_us": "median µs", "p99_us": "p99 µs"}

TLS_CONFIG = """
tls {{ cert_file: {folder}/server.pem, key_file: {folder}/server.pem, handshake_first: auto }}
allow_non_tls: true  # the requester has none, so that it costs the same
"""

Results = dict[tuple[str, int], dict[str, float]]


@dataclass(frozen=True)
class Load:
    """What the requester sends."""

    outstanding: list[int]
    payload_bytes: int
    scale: float

    def count(self, outstanding: int) -> int:
        """Requests in one measurement."""
        return int(COUNTS[max(each for each in COUNTS if each <= outstanding)] * self.scale)


def make_certificates(folder: Path) -> tuple[Path, str]:
    """The file with the authority that peers trust, and the configuration of a server that they find with TLS."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    certificate.private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    return folder / "authority.pem", TLS_CONFIG.format(folder=folder)


def find_contestants(
    keys: list[str], server: NatsServer, url: str, folder: Path, authority: Path | None
) -> tuple[list[Contestant], dict[str, str]]:
    """Those that can be had, and the reasons why the others cannot."""
    found: list[Contestant] = []
    skipped: dict[str, str] = {}
    for key in keys:
        peer = PEERS[key]
        progress(f"preparing {peer.title}")
        try:
            if authority and not peer.takes_tls:
                raise UnavailableError("not measured with TLS")
            command = peer.command(folder) + (["--tls", str(authority)] if authority else [])
            with service(command, url, "bench.trial") as trial:
                if authority and not all("tls_version" in each for each in server.monitor("connz")["connections"]):
                    raise UnavailableError("it connected without TLS")
                found.append(Contestant(key, peer.title, command, trial.versions))
        except (UnavailableError, ServiceFailedError) as error:
            skipped[peer.title] = str(error)
    return found, skipped


def cpu_seconds(pid: int) -> float:
    """Processor time of all threads of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(pid: int, url: str, subject: str, *, outstanding: int, count: int, payload_bytes: int) -> dict[str, float]:
    """One run of the requester against one service."""
    before = cpu_seconds(pid)
    requester = start_requester(url, subject, count=count, outstanding=outstanding, payload_bytes=payload_bytes)
    result = finish_requester(requester)
    result["cpu_us"] = (cpu_seconds(pid) - before) * 1e6 / count
    return result


def one_run(contestants: list[Contestant], server: NatsServer, service_url: str, number: int, load: Load) -> Results:
    """Fresh services, each measured in turn at each depth."""
    results: Results = {}
    order = contestants if number % 2 else contestants[::-1]
    with ExitStack() as stack:
        pids = {
            each.key: stack.enter_context(service(each.command, service_url, each.subject)).process.pid
            for each in order
        }

        def measured(each: Contestant, outstanding: int, count: int) -> dict[str, float]:
            options = {"outstanding": outstanding, "count": count, "payload_bytes": load.payload_bytes}
            return measure(pids[each.key], server.url, each.subject, **options)

        for each in order:
            measured(each, 64, WARM_UP)
        for outstanding in load.outstanding:
            for each in order:
                result = measured(each, outstanding, load.count(outstanding))
                results[each.key, outstanding] = result
                progress(
                    f"run {number}: {each.title}, {outstanding} outstanding: "
                    f"{result['requests_per_second']:.0f} req/s, "
                    f"CPU {result['cpu_us']:.0f} µs (requester {result['own_cpu_us_per_request']:.0f} µs), "
                    f"{result['errors']:.0f} errors"
                )
    return results


def print_table(contestants: list[Contestant], runs: list[Results], load: Load, tls: bool) -> None:
    """Medians of the paired ratios, with the medians themselves behind them."""
    echo = f"echo of {load.payload_bytes} bytes" + (", services with TLS" if tls else "")
    medians = f"medians of {len(runs)} paired runs (in brackets: medians as measured)"
    print(f"Ratios to {PEERS[BASELINE].title}: {echo}, {medians}")
    print()
    print("| outstanding | peer | " + " | ".join(MEASURES.values()) + " | errors |")
    print("|---|---|" + "---|" * (len(MEASURES) + 1))
    for outstanding in load.outstanding:
        for each in contestants:
            cells = []
            for measure_key in MEASURES:
                own = [run[each.key, outstanding][measure_key] for run in runs]
                theirs = [run[BASELINE, outstanding][measure_key] for run in runs]
                cells.append(ratio_cell(own, theirs))
            errors = sum(run[each.key, outstanding]["errors"] for run in runs)
            print(f"| {outstanding} | {each.title} | {' | '.join(cells)} | {errors:.0f} |")


def numbers(text: str) -> list[int]:
    """Those of a list with commas."""
    found = [int(each) for each in text.split(",")]
    if min(found) < 1:
        raise argparse.ArgumentTypeError(f"{text}: write numbers from 1 on")
    return found


def payload_bytes(text: str) -> int:
    """As many as nats-server takes."""
    if not 0 <= int(text) <= MAX_PAYLOAD:
        raise argparse.ArgumentTypeError(f"{text}: write a number from 0 to {MAX_PAYLOAD}")
    return int(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=keys_of(PEERS), default=list(PEERS), help=f"some of {','.join(PEERS)} (all)")
    parser.add_argument("--runs", type=int, default=3, help="alternating runs (%(default)s)")
    parser.add_argument("--scale", type=float, default=1.0, help="times as many requests in each (%(default)s)")
    parser.add_argument("--outstanding", type=numbers, default=list(COUNTS), help="requests under way (1,64,512)")
    parser.add_argument("--payload", type=payload_bytes, default=16, help="bytes in each (%(default)s)")
    parser.add_argument("--tls", action="store_true", help="services connect with TLS, those that can here")
    parser.add_argument("--folder", type=Path, help="where to keep what is installed for peers (nowhere)")
    arguments = parser.parse_args()
    load = Load(arguments.outstanding, arguments.payload, arguments.scale)
    with TemporaryDirectory(prefix="natsery-peers-") as temporary, ExitStack() as stack:
        folder = (arguments.folder or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        authority, config = make_certificates(Path(temporary)) if arguments.tls else (None, "")
        server = stack.enter_context(NatsServer(config))
        url = server.tls_url if arguments.tls else server.url
        contestants, skipped = find_contestants(arguments.peers, server, url, folder, authority)
        if PEERS[BASELINE].title in skipped:
            raise SystemExit(f"nothing to compare with: {skipped[PEERS[BASELINE].title]}")
        runs = [one_run(contestants, server, url, number, load) for number in range(1, arguments.runs + 1)]
        print_table(contestants, runs, load, arguments.tls)
        print_versions(server, contestants, skipped)


if __name__ == "__main__":
    main()
