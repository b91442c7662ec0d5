"""Measures echo services beside those of other implementations: at several depths, with several payloads, and with TLS."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import trustme
from figures import Labels, Run
from installations import UnavailableError
from lab import Contestant, Lab, in_turn
from peers import BASELINE, PEERS

from natsery.testing import NatsServer
from processes import cpu_seconds, finish_requester, service, start_requester

WARM_UP = 5_000

MEASURES = {
    "requests_per_second": "requests/s",
    "cpu_us": "CPU µs each",
    "p50_us": "p50 µs",
    "p99_us": "p99 µs",
    "p999_us": "p99.9 µs",
    "errors": "errors",
}
HEADINGS = ("payload", "outstanding", "service")

TLS_CONFIG = """
tls {{ cert_file: {folder}/server.pem, key_file: {folder}/server.pem, handshake_first: auto }}
allow_non_tls: true  # the requester has none, so that it costs the same
"""


@dataclass(frozen=True)
class Load:
    """What the requester sends."""

    payload_bytes: int
    outstanding: int
    count: int

    def row(self, title: str) -> Labels:
        """Where its figures stand."""
        return (size(self.payload_bytes), str(self.outstanding), title)


DEPTHS = (Load(16, 1, 6_000), Load(16, 64, 60_000), Load(16, 512, 100_000))
PAYLOADS = (Load(1024, 64, 40_000), Load(64 * 1024, 64, 5_000), Load(512 * 1024, 64, 600))
TLS_LOADS = (Load(16, 1, 6_000), Load(16, 64, 60_000), Load(64 * 1024, 64, 5_000))


def measure_depths(lab: Lab) -> None:
    """At 1, 64 and 512 requests under way."""
    with NatsServer() as server:
        _compare(lab, "services", "Services", server, server.url, DEPTHS)


def measure_payloads(lab: Lab) -> None:
    """With more in each request."""
    with NatsServer() as server:
        _compare(lab, "payloads", "Payloads", server, server.url, PAYLOADS)


def measure_tls(lab: Lab) -> None:
    """Services that connect with TLS, those that can here."""
    with TemporaryDirectory(prefix="natsery-tls-") as temporary:
        authority, config = _make_certificates(Path(temporary))
        with NatsServer(config) as server:
            _compare(lab, "tls", "Services with TLS", server, server.tls_url, TLS_LOADS, authority)


def _make_certificates(folder: Path) -> tuple[Path, str]:
    """The file with the authority that peers trust, and the configuration of a server that they find with TLS."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    certificate.private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    return folder / "authority.pem", TLS_CONFIG.format(folder=folder)


def _compare(
    lab: Lab,
    key: str,
    title: str,
    server: NatsServer,
    url: str,
    loads: tuple[Load, ...],
    authority: Path | None = None,
) -> None:
    """Fresh services in each run, each measured in turn with each load."""
    contestants = _find_contestants(lab, server, url, authority)
    baseline = PEERS[BASELINE].title
    rows = {load.row(each.title): load.row(baseline) for load in loads for each in contestants}
    table = lab.begin(key, title, HEADINGS, MEASURES, rows)
    for number in range(1, lab.runs + 1):
        run = table.begin_run()
        order = in_turn(contestants, number)
        with ExitStack() as stack:
            live = [(each, stack.enter_context(service(each.command, url, each.subject)).process.pid) for each in order]
            for each, pid in live:
                _measure(pid, server.url, each.subject, Load(16, 64, WARM_UP))
            for load in loads:
                scaled = Load(load.payload_bytes, load.outstanding, lab.scaled(load.count))
                for each, pid in live:
                    _record(lab, number, run, load.row(each.title), _measure(pid, server.url, each.subject, scaled))


def _record(lab: Lab, number: int, run: Run, row: Labels, result: dict[str, float]) -> None:
    said = (
        f"{result['requests_per_second']:.0f} requests/s, "
        f"CPU {result['cpu_us']:.1f} µs (requester {result['own_cpu_us_per_request']:.1f} µs), "
        f"{result['errors']:.0f} errors"
    )
    lab.record(number, run, row, {measure: result[measure] for measure in MEASURES}, said)


def _find_contestants(lab: Lab, server: NatsServer, url: str, authority: Path | None) -> list[Contestant]:
    """Those that can be had; natsery's core and their versions are noted."""

    def try_out(key: str) -> tuple[Contestant, str]:
        peer = PEERS[key]
        command = peer.command(lab.folder) + (["--tls", str(authority)] if authority else [])
        with service(command, url, "bench.trial") as trial:
            if authority and not all("tls_version" in each for each in server.monitor("connz")["connections"]):
                raise UnavailableError("it connected without TLS")
            return Contestant(key, peer.title, command), trial.versions

    keys = [key for key in PEERS if key in lab.peers and (authority is None or PEERS[key].takes_tls)]
    admitted = [lab.admit(PEERS[key].title, lambda key=key: try_out(key)) for key in keys]
    return [each for each in admitted if each is not None]


def _measure(pid: int, url: str, subject: str, load: Load) -> dict[str, float]:
    """One run of the requester against one service."""
    before = cpu_seconds(pid)
    payload = ["--payload", str(load.payload_bytes)]
    requester = start_requester(url, subject, *payload, count=load.count, outstanding=load.outstanding)
    result = finish_requester(requester)
    result["cpu_us"] = (cpu_seconds(pid) - before) * 1e6 / load.count
    return result


def size(count: int) -> str:
    """Bytes, as people write them."""
    return f"{count} B" if count < 1024 else f"{count // 1024} KiB"
