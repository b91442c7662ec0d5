"""Counts the instructions that a request, a message or a reply takes, which no other process can disturb.

valgrind runs each case with two lengths, so that the start does not count, and each of them twice; a server that answers
only while the client waits has every run take the same steps. The figures are compared with those in budget.json for this
Python: the exit status is 1 when one has grown by more than 2 %, or when there is nothing to compare with.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import signal
import ssl
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Self

import trustme
from lockstep import LockstepServer
from page import INSTRUCTIONS, write_part

from processes import progress

HERE = Path(__file__).parent
BUDGET = HERE / "budget.json"
TOLERANCE = 0.02

REPEATS = 2
WARM_UP_ROUNDS = 50
ROUNDS = {1: 500, 64: 100}
"""Rounds that count, for bursts of so many."""


@dataclass(frozen=True)
class Case:
    """What is counted."""

    work: str
    backend: str
    core: str = "compiled"
    burst: int = 64
    tls: bool = False

    @property
    def name(self) -> str:
        """What it is called in the budget."""
        parts = [self.work, *(["TLS"] if self.tls else []), self.backend, f"{self.core} core"]
        return ", ".join([*parts, f"bursts of {self.burst}"] if self.work != "memory" else parts)


BACKENDS = ("trio", "asyncio")
CASES = (
    *(
        Case("service", backend, core, burst)
        for core in ("compiled", "python")
        for backend in BACKENDS
        for burst in (1, 64)
    ),
    *(Case("service", backend, burst=burst, tls=True) for backend in BACKENDS for burst in (1, 64)),
    *(Case("request", backend, burst=burst) for backend in BACKENDS for burst in (1, 64)),
    *(Case(work, backend) for work in ("publish", "receive") for backend in BACKENDS),
    *(Case("memory", backend, burst=1) for backend in BACKENDS),
)


class CountError(Exception):
    """A case could not be counted."""


class Counter:
    """valgrind with a process that does one piece of work after the other, for the length of a block; not for many threads."""

    def __init__(self, core: str, certificates: Path) -> None:
        self._certificates = certificates
        self._log = certificates / "valgrind"
        command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", f"--log-file={self._log}-%p"]
        environment = {**os.environ, "NATSERY_CORE": core, "PYTHONHASHSEED": "0"}
        self._process = subprocess.Popen(
            [*command, sys.executable, str(HERE / "instructions_peer.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            process_group=0,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)  # with what it has forked
        self._process.wait()

    def count(self, case: Case) -> int:
        """Instructions for each request or message of a case."""
        rounds = ROUNDS[case.burst]
        short, long = (
            # What happens once in a while only ever adds to a run.
            min(self._collected(case, each) for _ in range(REPEATS))
            for each in (WARM_UP_ROUNDS, WARM_UP_ROUNDS + rounds)
        )
        return round((long - short) / (rounds * case.burst))

    def _collected(self, case: Case, rounds: int) -> int:
        """The instructions of one run, from its start to its end."""
        assert self._process.stdin is not None
        authority = str(self._certificates / "authority.pem") if case.tls else ""
        server = LockstepServer(case.burst, rounds, self._context() if case.tls else None)
        work = (case.work, case.backend, server.url, str(case.burst), str(rounds), authority)
        print(*work, file=self._process.stdin, flush=True)
        pid = self._read(case)
        Thread(target=server.serve, args=(pid,), daemon=True).start()
        status = self._read(case)
        server.close()
        found = re.search(r"Collected : (\d+)", Path(f"{self._log}-{pid}").read_text())
        if status or found is None:
            raise CountError(f"{case.name}: exit status {status}")
        return int(found[1])

    def _read(self, case: Case) -> int:
        """The next number that it says."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise CountError(f"{case.name}: valgrind has ended with status {self._process.wait()}")
        return int(line)

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self._certificates / "server.pem")
        return context


def make_certificates(folder: Path) -> Path:
    """An authority, and what a server with TLS shows."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    return folder


def made_with() -> dict[str, str]:
    """What the figures depend on besides natsery."""
    packages = {name: version(name) for name in ("anyio", "trio")}
    is_optimised = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    return {
        "python": f"{platform.python_version()}, {platform.python_compiler()}",
        "profile-guided": "yes" if is_optimised else "no",
        "machine": platform.machine(),
        **packages,
    }


def python_key() -> str:
    """The version of Python that a budget is for."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def read_budget() -> dict[str, dict[str, dict]]:
    """All budgets, by the version of Python."""
    return json.loads(BUDGET.read_text()) if BUDGET.exists() else {}


def table(found: dict[str, int], budget: dict[str, int]) -> str:
    """The figures beside the budget."""
    lines = ["| | instructions each | budget | change |", "|---|---|---|---|"]
    for name, instructions in found.items():
        allowed = budget.get(name)
        change = "" if allowed is None else f"{instructions / allowed - 1:+.1%}"
        lines.append(f"| {name} | {instructions:,} | {'' if allowed is None else f'{allowed:,}'} | {change} |")
    return "\n".join(lines)


def is_within(found: dict[str, int], allowed: dict[str, int]) -> bool:
    """Whether all have a budget and keep to it."""
    return not _unknown(found, allowed) and not _grown(found, allowed)


def remarks(found: dict[str, int], budget: dict[str, dict]) -> list[str]:
    """What is to be said about figures beside a budget."""
    allowed = budget.get("instructions", {})
    then = budget.get("made with", {})
    lines = [
        f"The budget was made with {what} {then[what]}, and this is {value}, which may be the reason for a change."
        for what, value in made_with().items()
        if what in then and then[what] != value
    ]
    if unknown := _unknown(found, allowed):
        lines.append(f"No budget for Python {python_key()} has: {'; '.join(unknown)}. --update writes one.")
    if grown := _grown(found, allowed):
        lines += [f"More than {TOLERANCE:.0%} above the budget:", table(grown, allowed)]
        lines.append("Make it cheaper, or raise the budget with --update and say in the commit what that buys.")
    return lines


def _unknown(found: dict[str, int], allowed: dict[str, int]) -> list[str]:
    """Those without a budget."""
    return [name for name in found if name not in allowed]


def _grown(found: dict[str, int], allowed: dict[str, int]) -> dict[str, int]:
    """Those above their budget."""
    return {name: each for name, each in found.items() if name in allowed and each > allowed[name] * (1 + TOLERANCE)}


def write_page(budget: dict[str, dict]) -> None:
    """Put the budget into docs/benchmarks.md."""
    lines = [f"- {what}: {value}" for what, value in budget["made with"].items()]
    rows = [f"| {name} | {instructions:,} |" for name, instructions in budget["instructions"].items()]
    write_part(INSTRUCTIONS, "\n".join(["| | instructions each |", "|---|---|", *rows, "", *lines]))


def count_all(cases: list[Case], found: dict[str, int], failed: list[str]) -> None:
    """Count these, one after the other for each core and event loop, and note what is found and what fails."""
    kinds = sorted({(case.core, case.backend) for case in cases})

    def count_of(kind: tuple[str, str], counter: Counter) -> None:
        for case in cases:
            if (case.core, case.backend) == kind:
                try:
                    found[case.name] = counter.count(case)
                    progress(f"{len(found)} of {len(cases)}: {case.name}: {found[case.name]:,} instructions each")
                except (CountError, OSError) as error:
                    failed.append(str(error))

    with (
        TemporaryDirectory(prefix="natsery-instructions-") as temporary,
        ThreadPoolExecutor(len(kinds)) as pool,
        ExitStack() as counters,
    ):
        certificates = make_certificates(Path(temporary))
        running = [counters.enter_context(Counter(core, certificates)) for core, _ in kinds]
        # Consumed, so that this waits; with Ctrl-C the processes end, and then the threads.
        list(pool.map(count_of, kinds, running))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="the cases that have this in their names, such as 'trio' (all)")
    parser.add_argument(
        "--update", action="store_true", help="write the figures into budget.json and docs/benchmarks.md"
    )
    arguments = parser.parse_args()
    cases = [case for case in CASES if arguments.only in case.name]
    if not cases:
        parser.error(f"--only {arguments.only}: not in {'; '.join(case.name for case in CASES)}")
    if shutil.which("valgrind") is None:
        raise SystemExit("instructions are counted by valgrind, which is not on this machine: install it")
    if sys.platform != "linux":
        raise SystemExit("instructions are counted on Linux only")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C does, it ends what was started
    found: dict[str, int] = {}
    failed: list[str] = []
    is_whole = True
    try:
        count_all(cases, found, failed)
    except KeyboardInterrupt:
        is_whole = False
    found = {case.name: found[case.name] for case in cases if case.name in found}
    budgets = read_budget()
    budget = budgets.get(python_key(), {})
    allowed = budget.get("instructions", {})
    print(table(found, allowed))
    if not is_whole or failed:
        raise SystemExit("\n".join(["", *failed]) if is_whole else 130)
    if arguments.update:
        budgets[python_key()] = {"made with": made_with(), "instructions": {**allowed, **found}}
        BUDGET.write_text(json.dumps(budgets, indent=2) + "\n")
        write_page(budgets[python_key()])
        return
    print("".join(f"\n{line}\n" for line in remarks(found, budget)))
    raise SystemExit(0 if is_within(found, allowed) else 1)


if __name__ == "__main__":
    main()
