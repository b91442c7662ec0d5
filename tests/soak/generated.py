"""Looks for examples that break what must hold: tests with generated examples, again and again with others, for some minutes.

No file of tests is begun after that; the one that runs is waited for, so that what it finds is told.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

FILES = (
    "tests/test_service_states.py",
    "tests/test_connection_states.py",
    "tests/protocol/test_parser.py",
    "tests/protocol/test_headers.py",
    "tests/protocol/test_server_info.py",
    "tests/core/test_reader.py",
    "tests/test_responses.py",
)

HUNG_SECONDS = 600
"""How long a file may take; most need some seconds."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.generated", description=__doc__)
    parser.add_argument("--minutes", type=float, default=2, help="in all (%(default)s)")
    end = time.monotonic() + parser.parse_args().minutes * 60
    failed = 0
    left: list[str] = []
    while time.monotonic() < end:
        # In another order each time, so that short runs see all of them in the end.
        left = left or random.sample(FILES, len(FILES))
        failed += not _run(left.pop(), end)
    if failed:
        raise SystemExit(1)


def _run(file: str, end: float) -> bool:
    """Run the tests of a file that hypothesis makes examples for, and say what became of them; print what has failed."""
    begun = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-q", "-m", "hypothesis", "--hypothesis-profile", "soak", file]
    try:
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=HUNG_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        outcome = f"hung for {HUNG_SECONDS} s"
    else:
        outcome = "passed" if done.returncode == 0 else f"failed:\n{done.stdout}"
    now = time.monotonic()
    print(f"{file}: {now - begun:.0f} s, {max(0, end - now):.0f} s left, {outcome}", file=sys.stderr, flush=True)
    return outcome == "passed"


if __name__ == "__main__":
    main()
