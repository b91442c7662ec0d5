"""Breaks the service layer in one place after the other, and fails where no test notices.

mutmut makes the mutants, leaves out those that mypy rejects and runs the tests that reach each of the others; `[tool.mutmut]` in
pyproject.toml says which modules and which tests. This bounds its time, adds up, and compares the mutants that survived with
those that `survivors.toml` explains. The wording of texts for people is not tested: a text of several words may be written in
capitals or between other letters, a task have no name and a cancellation no reason. What was found is kept in the folder
``mutants``, so that the next run goes on where this one ended, with what has changed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path("mutants")
EXPLAINED = Path(__file__).with_name("survivors.toml")
SECONDS_TO_STOP = 60

ENVIRONMENT = {**os.environ, "NATSERY_CORE": "python"}  # the compiled one would run in place of the mutants

STATUSES = {
    0: "survived",
    1: "killed",
    2: "",
    3: "killed",
    5: "untested",
    33: "untested",
    37: "rejected",
    255: "untested",  # pytest could not be run; mutmut says that its time was up
    None: "",
}
"""What mutmut's exit statuses mean, ``""`` for not tested yet; all others are time-outs and crashes."""

COLUMNS = ("mutants", "rejected", "killed", "stopped", "explained", "survived", "untested")

TEXT = re.compile(r'"([^"\n]*)"')

NOTE = re.compile(
    r'name=(None|f?"(XX)?(?i:natsery) [^"]*")|(?<=[.]cancel[(])(None|"[^"]*")(?=[)])|, (?=[)])|, (?=name=)'
)
"""The name of a task, and the reason of a cancellation, with the comma that may be left of it."""

Change = tuple[str, str, str]
"""A function, what a mutant takes out of it, and what it puts in."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "mutants", nargs="*", help="names or patterns, such as 'natsery._statistics.*'; all if left out"
    )
    parser.add_argument(
        "--minutes", type=float, default=60, help="stop after so long, for another run to go on (default: 60)"
    )
    parser.add_argument(
        "--every", type=int, default=1, metavar="N", help="of a folder that has been filled, only each Nth mutant"
    )
    parser.add_argument("--processes", type=int, default=2, help="how many mutants to test at a time (default: 2)")
    options = parser.parse_args()
    names = options.mutants or (sorted(_found())[:: options.every] if options.every > 1 else [])
    is_complete = _run_mutmut(names, options.processes, options.minutes * 60)
    found = {name: status for name, status in _found().items() if status}
    explained = {
        (each["function"], each["without"], each["with"]) for each in tomllib.loads(EXPLAINED.read_text())["survivor"]
    }
    diffs = {name: _diff(name) for name, status in found.items() if status in ("survived", "stopped", "untested")}
    for name, diff in diffs.items():
        change = _change(name, diff)
        if found[name] == "survived" and (change in explained or _is_about_wording(change)):
            found[name] = "explained"
        else:
            print(f"\n{found[name]}: {diff}")
    _print_table(found)
    unexplained = sum(status in ("survived", "untested") for status in found.values())
    print(f"\n{unexplained} mutants survived that no entry in {EXPLAINED.name} explains")
    if not is_complete:
        print(f"the time was up after {options.minutes:g} minutes: run it again to go on")
    return 1 if unexplained else 0


def _run_mutmut(names: list[str], processes: int, seconds: float) -> bool:
    """Test the mutants that have no result yet; return whether there was time for all of them."""
    mutmut = subprocess.Popen(["mutmut", "run", "--max-children", str(processes), *names], env=ENVIRONMENT)
    try:
        status = mutmut.wait(seconds)
    except subprocess.TimeoutExpired:
        mutmut.send_signal(signal.SIGINT)
        mutmut.wait(SECONDS_TO_STOP)
        return False
    if status:
        raise SystemExit(f"mutmut ended with {status}")
    return True


def _found() -> dict[str, str]:
    """What has become of each mutant, ``""`` for those that have not been tested."""
    metas = (json.loads(path.read_text()) for path in FOLDER.rglob("*.meta"))
    return {
        name: STATUSES.get(status, "stopped") for meta in metas for name, status in meta["exit_code_by_key"].items()
    }


def _print_table(found: dict[str, str]) -> None:
    rows: dict[str, Counter[str]] = {}
    for name, status in found.items():
        for row in (_module(name), "all"):
            rows.setdefault(row, Counter()).update(["mutants", status])
    print(f"\n{'':32}" + "".join(f"{each:>10}" for each in COLUMNS))
    for row, counts in sorted(rows.items(), key=lambda item: (item[0] == "all", item[0])):
        print(f"{row:32}" + "".join(f"{counts[each]:10}" for each in COLUMNS))


def _module(name: str) -> str:
    return name.rpartition(".")[0].removeprefix("natsery.")


def _diff(name: str) -> str:
    return subprocess.run(["mutmut", "show", name], capture_output=True, text=True, check=True).stdout.strip()


def _change(name: str, diff: str) -> Change:
    """What `survivors.toml` knows a mutant by, since its number changes with the code around it."""
    function = name.rpartition("__mutmut_")[0].replace("xǁ", "").replace("ǁ", ".").replace(".x_", ".")
    lines = [line for line in diff.splitlines() if not line.startswith(("---", "+++"))]
    return function, "\n".join(_marked(lines, "-")), "\n".join(_marked(lines, "+"))


def _marked(lines: list[str], mark: str) -> Iterator[str]:
    return (line[1:].strip() for line in lines if line.startswith(mark))


def _is_about_wording(change: Change) -> bool:
    """Whether it changes no more than a text for people: its case or what stands around it, or a note for debugging."""
    _, without, with_ = change
    without, with_ = NOTE.sub("", without), NOTE.sub("", with_)
    texts, others = TEXT.findall(without), TEXT.findall(with_)
    if TEXT.sub("", without) != TEXT.sub("", with_) or len(texts) != len(others):
        return False
    changed = [(text, other) for text, other in zip(texts, others, strict=True) if text != other]
    return all(" " in text and (other == f"XX{text}XX" or other.lower() == text.lower()) for text, other in changed)


if __name__ == "__main__":
    sys.exit(main())
