"""Counts the requests lost while a member of a queue group leaves and rejoins under load.

Two members share the requests; one of them leaves and rejoins over and over, on a connection that stays open. A request
is lost if neither an answer nor a 503 comes within 2 s.
"""

from __future__ import annotations

import argparse
import time

from processes import await_line, ended, finish_requester, nats_server, progress, service, start_requester

PEERS = {
    "adapted": "natsery adapted, asyncio",
    "bridged": "natsery bridged, trio",
    "nats-py": "nats-py micro (asyncio)",
}


def drain_under_load(peer: str, url: str, drains: int, outstanding: int) -> dict[str, float]:
    """What the requester saw of it."""
    subject = f"drain.{peer}"
    with (
        service(peer, url, subject),
        ended(start_requester(url, subject, count=0, outstanding=outstanding)) as requester,
    ):
        start = time.monotonic()
        with service(peer, url, subject, rejoins=drains) as leaver:
            await_line(leaver, "done")
            progress(f"{PEERS[peer]}: {drains} drains in {time.monotonic() - start:.1f} s")
            requester.terminate()
            return finish_requester(requester)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--drains", type=int, default=100, help="how often a member leaves (%(default)s)")
    parser.add_argument("--outstanding", type=int, default=64, help="requests under way at a time (%(default)s)")
    arguments = parser.parse_args()
    print("| peer | drains | requests | answered | refused (503) | other replies | lost | unexpected |", flush=True)
    print("|---|---|---|---|---|---|---|---|", flush=True)
    with nats_server() as url:
        for peer, name in PEERS.items():
            seen = drain_under_load(peer, url, arguments.drains, arguments.outstanding)
            columns = ("requests", "answered", "refused", "failed", "lost", "unexpected")
            cells = " | ".join(f"{seen[column]:.0f}" for column in columns)
            print(f"| {name} | {arguments.drains} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
