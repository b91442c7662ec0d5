"""What the comparisons have in common: who takes part, and how figures and versions are shown."""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from peers import BASELINE

from natsery.testing import NatsServer


@dataclass(frozen=True)
class Contestant:
    """A peer that works on this machine."""

    key: str
    title: str
    command: list[str]
    versions: str

    @property
    def subject(self) -> str:
        """What is its own."""
        return f"bench.{self.key}"


def keys_of(peers: Iterable[str]) -> Callable[[str], list[str]]:
    """A reader of lists with commas: the baseline, and those of the peers that are in it."""

    def peer_keys(text: str) -> list[str]:
        keys = text.split(",")
        unknown = [key for key in keys if key not in peers]
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not among {', '.join(peers)}")
        return [BASELINE, *(key for key in keys if key != BASELINE)]

    return peer_keys


def ratio_cell(own: list[float], theirs: list[float]) -> str:
    """The median of the paired ratios, with the median itself behind it."""
    ratios = [one / (other or 1) for one, other in zip(own, theirs, strict=True)]
    return f"{statistics.median(ratios):.2f} ({_short(statistics.median(own))})"


def print_versions(server: NatsServer, contestants: list[Contestant], skipped: dict[str, str]) -> None:
    """What was measured, and what was not and why."""
    print(f"\nnats-server: v{server.monitor('varz')['version']}, {os.cpu_count()} processors")
    for each in contestants:
        print(f"{each.title}: {each.versions}")
    for title, reason in skipped.items():
        print(f"{title}: skipped: {reason}")


def _short(value: float) -> str:
    """A decimal only where it says something."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"
