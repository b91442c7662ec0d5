"""Counts the requests lost while a member of a queue group leaves and rejoins under load.

Two members share the requests; one of them leaves and rejoins over and over, on a connection that stays open. A request
is lost if neither an answer nor a 503 comes within 10 s.
"""

from __future__ import annotations

import argparse
import time

from peers import PEERS, own_command

from natsery.testing import NatsServer
from processes import await_line, ended, finish_requester, progress, service, start_requester

MEASURED = ("native-asyncio", "native-trio", "adapted-asyncio", "bridged-trio", "nats-py")
COLUMNS = ("requests", "answered", "refused", "failed", "lost", "unexpected")


def drain_under_load(key: str, url: str, drains: int, outstanding: int) -> dict[str, float]:
    """What the requester saw of it."""
    subject = f"drain.{key}"
    command = own_command(key)
    with (
        service(command, url, subject),
        ended(start_requester(url, subject, count=0, outstanding=outstanding)) as requester,
    ):
        start = time.monotonic()
        with service(command, url, subject, "--rejoins", str(drains)) as leaver:
            await_line(leaver.process, "done")
            progress(f"{PEERS[key].title}: {drains} drains in {time.monotonic() - start:.1f} s")
            requester.terminate()
            return finish_requester(requester)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--drains", type=int, default=100, help="how often a member leaves (%(default)s)")
    parser.add_argument("--outstanding", type=int, default=64, help="requests under way at a time (%(default)s)")
    arguments = parser.parse_args()
    print("| peer | drains | requests | answered | refused (503) | other replies | lost | unexpected |", flush=True)
    print("|---|---|---|---|---|---|---|---|", flush=True)
    with NatsServer() as server:
        for key in MEASURED:
            seen = drain_under_load(key, server.url, arguments.drains, arguments.outstanding)
            cells = " | ".join(f"{seen[column]:.0f}" for column in COLUMNS)
            print(f"| {PEERS[key].title} | {arguments.drains} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
