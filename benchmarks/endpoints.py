"""Measures a service with 1, 100 and 10,000 endpoints: how long it takes to start, its memory, and its STATS."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from lab import Lab, in_turn
from peers import BASELINE, PEERS

from natsery.testing import NatsServer
from processes import await_line, ended, start

COUNTS = (1, 100, 10_000)
SERVICES = (BASELINE, "native-trio", "native-asyncio")

MEASURES = {
    "start_ms": "ms to start",
    "bytes_each": "bytes of memory each",
    "stats_kib": "KiB of STATS",
    "stats_ms": "ms for STATS",
}
NOTE = "Memory is what the process grew by, over the number of endpoints. The time for STATS is the least of five."


def measure_endpoints(lab: Lab) -> None:
    """Each in a fresh process, in turn."""
    services = [key for key in SERVICES if key in lab.peers]
    rows = {
        (f"{count:,}", PEERS[key].title): (f"{count:,}", PEERS[BASELINE].title) for count in COUNTS for key in services
    }
    table = lab.begin("endpoints", "Endpoints", ("endpoints", "service"), MEASURES, rows, NOTE)
    # STATS of so many is larger than the 1 MiB that a server takes by default.
    with NatsServer("max_payload: 8MB") as server:
        for number in range(1, lab.runs + 1):
            run = table.begin_run()
            for count in COUNTS:
                for key in in_turn(services, number):
                    result = _measure(key, server.url, count)
                    lab.versions[PEERS[key].title] = str(result.pop("versions"))
                    said = f"{result['start_ms']:.1f} ms to start, {result['bytes_each']:.0f} bytes each"
                    lab.record(number, run, (f"{count:,}", PEERS[key].title), result, said)


def _measure(key: str, url: str, count: int) -> dict[str, float]:
    """One service."""
    command = [sys.executable, str(Path(__file__).with_name("endpoints_peer.py")), key, url, str(count)]
    with ended(start(command)) as process:
        return json.loads(await_line(process, "done"))
