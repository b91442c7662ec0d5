"""Runs the scenarios for some minutes, on each form of the library, and prints a table of what became of the requests.

A run that fails is printed with the command that repeats it. Ctrl-C ends it with the table of what was done until then.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from typing import Any

from .one_form import BACKENDS, CORES, heed_interrupts
from .scenarios import SCENARIOS
from .table import as_json, as_markdown, environment, failures
from .tally import LeftOver, Tally

FORMS = [f"{backend}-{core}" for backend in BACKENDS for core in CORES]
END_SECONDS = 30


def main() -> None:
    arguments = _parser().parse_args()
    heed_interrupts()
    forms = arguments.form or [form for form in FORMS if not form.startswith("uvloop")]
    scenarios = arguments.scenario or list(SCENARIOS)
    seed = secrets.randbelow(1_000_000_000) if arguments.seed is None else arguments.seed
    seconds = arguments.minutes * 60 * min(arguments.at_once, len(forms)) / len(forms) / len(scenarios)
    work = {"scenarios": scenarios, "seconds": seconds, "runs": arguments.runs, "first_seed": seed}
    _say(f"the first seed is {seed}")
    tallies = Progress(forms, scenarios)
    workers = [threading.Thread(target=tallies.work_off, args=(work,)) for _ in range(arguments.at_once)]
    for worker in workers:
        worker.start()
    try:
        for worker in workers:
            worker.join()
    except KeyboardInterrupt:
        tallies.interrupt()
        for worker in workers:
            worker.join()
    rows = tallies.in_order()
    print(", ".join(f"{name} {value}" for name, value in environment().items()))
    print(f"\n{as_markdown(rows)}")
    if arguments.json is not None:
        arguments.json.write_text(as_json(rows) + "\n", encoding="utf-8")
    if problems := failures(rows):
        print(f"\n{problems}")
    if tallies.broken:
        print("\n".join(tallies.broken))
    if tallies.broken or not all(tally.is_good for tally in rows):
        raise SystemExit(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument(
        "--minutes", type=float, default=10, help="in all, shared by the forms and the scenarios (%(default)s)"
    )
    parser.add_argument("--runs", type=int, help="repeat each scenario so often, however long that takes")
    parser.add_argument("--scenario", action="append", choices=list(SCENARIOS), help="only this one; may be repeated")
    parser.add_argument("--form", action="append", choices=FORMS, help="only this one; all but uvloop if left out")
    parser.add_argument("--seed", type=int, help="of the first run; each further one has the next number")
    parser.add_argument("--at-once", type=int, default=1, help="forms that run at the same time (%(default)s)")
    parser.add_argument("--json", type=Path, help="write the table to this file, as JSON")
    return parser


class Progress:
    """The forms that are left to do, the processes that do them, and the latest tally of each scenario on each form."""

    def __init__(self, forms: list[str], scenarios: list[str]) -> None:
        self.broken: list[str] = []
        self._order = [(form, scenario) for scenario in scenarios for form in forms]
        self._left = deque(forms)
        self._tallies: dict[tuple[str, str], Tally] = {}
        self._processes: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._is_interrupted = False

    def work_off(self, work: dict[str, Any]) -> None:
        """Do one form after the other until there are none left."""
        while True:
            with self._lock:
                if self._is_interrupted or not self._left:
                    return
                form = self._left.popleft()
                process = _start(form, work)
                self._processes.add(process)
            self._follow(process)
            with self._lock:
                self._processes.discard(process)
                if process.returncode and not self._is_interrupted:
                    self.broken.append(f"{form} ended with exit status {process.returncode}")

    def interrupt(self) -> None:
        """Have all processes end, which end their servers."""
        with self._lock:
            self._is_interrupted = True
            for process in self._processes:
                process.send_signal(signal.SIGINT)

    def in_order(self) -> list[Tally]:
        return [self._tallies[key] for key in self._order if key in self._tallies]

    def _follow(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as reports:
            for line in reports:
                fields = json.loads(line)
                left = fields.pop("left")
                tally = Tally(**fields, left=None if left is None else LeftOver(**left))
                self._tallies[tally.form, tally.scenario] = tally
                bad = "" if tally.is_good else f", {tally.lost} lost, {tally.hung} hung, {tally.failed} failed"
                state = "..." if left is None else " done"
                _say(f"{tally.form} {tally.scenario}: {tally.runs} runs, {tally.requests} requests{bad}{state}")
        process.wait(END_SECONDS)


def _start(form: str, work: dict[str, Any]) -> subprocess.Popen[str]:
    """Start the process of a form, out of the reach of the terminal's Ctrl-C, which is handed on to it once."""
    backend, _, core = form.partition("-")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.soak.one_form"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "NATSERY_CORE": core},
        start_new_session=True,
    )
    assert process.stdin is not None
    with process.stdin as stdin:
        stdin.write(json.dumps({**work, "backend": backend, "core": core}) + "\n")
    return process


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
