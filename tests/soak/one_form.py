"""The scenarios on one form of the library, in a process of their own: a line of JSON for each report of a tally."""

from __future__ import annotations

import json
import logging
import signal
import sys
from dataclasses import asdict
from functools import partial
from typing import Any

import anyio
import anyio.to_thread

import natsery
from natsery.testing import NatsServer

from .harness import repeat
from .scenarios import SCENARIOS
from .tally import Tally

BACKENDS: dict[str, dict[str, Any]] = {
    "trio": {"backend": "trio"},
    "asyncio": {"backend": "asyncio"},
    "uvloop": {"backend": "asyncio", "backend_options": {"use_uvloop": True}},
}
CORES = ("compiled", "python")


def main() -> None:
    """Take the work as a line of JSON from stdin."""
    work = json.loads(sys.stdin.readline())
    if work["core"] != natsery.CORE:
        raise SystemExit(f"the {natsery.CORE} core runs instead of the {work['core']} one")
    heed_interrupts()
    logging.disable()  # handlers raise all the time
    with NatsServer() as server:
        anyio.run(partial(_run, server, **work), **BACKENDS[work["backend"]])


def heed_interrupts() -> None:
    """Have Ctrl-C, and a polite end, interrupt this process although a shell has started it in the background."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


async def _run(
    server: NatsServer,
    *,
    backend: str,
    core: str,
    scenarios: list[str],
    seconds: float,
    runs: int | None,
    first_seed: int,
) -> None:
    # Event loops open some files when they first need them, and keep them.
    await anyio.to_thread.run_sync(lambda: None)
    async with natsery.connect(server.url) as nc:
        await nc.flush()
    for name in scenarios:
        tally = Tally(f"{backend}-{core}", name)
        await repeat(SCENARIOS[name], server, tally, _report, seconds=seconds, runs=runs, first_seed=first_seed)


def _report(tally: Tally) -> None:
    print(json.dumps(asdict(tally)), flush=True)


if __name__ == "__main__":
    main()
