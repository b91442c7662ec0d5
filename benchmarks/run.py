"""Measures natsery beside other NATS libraries, and writes what it finds as JSON, as Markdown and as a chart.

Ctrl-C ends it, with what there is by then. docs/benchmarks.md says what is measured, and how to read it.
"""

from __future__ import annotations

import argparse
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from subprocess import SubprocessError
from tempfile import TemporaryDirectory

from clients import measure_clients
from endpoints import measure_endpoints
from features import measure_features
from lab import Lab
from peers import BASELINE, CLIENTS, PEERS
from report import Machine, write, write_page
from services import measure_depths, measure_payloads, measure_tls
from workers import measure_workers

from processes import ServiceFailedError, progress

PARTS: dict[str, Callable[[Lab], None]] = {
    "services": measure_depths,
    "payloads": measure_payloads,
    "tls": measure_tls,
    "clients": measure_clients,
    "endpoints": measure_endpoints,
    "workers": measure_workers,
    "features": measure_features,
}

RUNS, QUICK_RUNS = 7, 1
QUICK_SCALE = 0.25
QUICK_PEERS = (
    BASELINE,
    "native-trio",
    "native-asyncio",
    "native-uvloop",
    "native-trio-deadlines",
    "nats-go",
    "bare-socket",
)


def some_of(names: Iterable[str]) -> Callable[[str], list[str]]:
    """A reader of lists with commas."""

    def read(text: str) -> list[str]:
        chosen = text.split(",")
        unknown = [name for name in chosen if name not in names]
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not among {', '.join(names)}")
        return chosen

    return read


def positive(text: str) -> float:
    """A number above zero."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: write a number above 0")
    return number


def runs(text: str) -> int:
    """How often to measure each."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: write a number from 1 on")
    return int(text)


def arguments_of(arguments: list[str] | None = None) -> argparse.Namespace:
    """What is asked for."""
    everybody = list(dict.fromkeys([*PEERS, *CLIENTS]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="less of all, beside few others: some three minutes")
    parser.add_argument("--only", type=some_of(PARTS), default=list(PARTS), help=f"some of {','.join(PARTS)} (all)")
    parser.add_argument(
        "--peers", type=some_of(everybody), help=f"some of {','.join(everybody)} (all; few with --quick)"
    )
    parser.add_argument(
        "--runs", type=runs, help=f"runs, forwards and backwards by turns ({RUNS}; {QUICK_RUNS} with --quick)"
    )
    parser.add_argument(
        "--scale", type=positive, help=f"times as much in each measurement (1; {QUICK_SCALE} with --quick)"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("benchmark-results"), help="the folder of the results (%(default)s)"
    )
    parser.add_argument("--folder", type=Path, help="where to keep what is installed for others (nowhere)")
    parser.add_argument(
        "--page", action="store_true", help="write the tables and the chart into docs/benchmarks.md, too"
    )
    return parser.parse_args(arguments)


def main() -> None:
    arguments = arguments_of()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C does, it ends what was started
    peers = arguments.peers or (QUICK_PEERS if arguments.quick else [*PEERS, *CLIENTS])
    machine = Machine.here()
    if machine.is_busy:
        progress(f"the machine is busy (load {machine.load:.1f}): the times will mean little")
    with TemporaryDirectory(prefix="natsery-peers-") as temporary:
        folder = (arguments.folder or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        lab = Lab(
            folder,
            {BASELINE, *peers},  # there must be something to compare with
            runs=arguments.runs or (QUICK_RUNS if arguments.quick else RUNS),
            scale=arguments.scale or (QUICK_SCALE if arguments.quick else 1),
            is_quick=arguments.quick,
        )
        finished = measure(lab, arguments.only)
    print(write(lab, machine, arguments.output, finished=finished))
    progress(f"results are in {arguments.output.absolute()}")
    if not finished:
        raise SystemExit(130)
    if arguments.page:
        write_page(lab, machine)


def measure(lab: Lab, parts: list[str]) -> bool:
    """Measure these parts, and return whether that was not broken off. One that fails is noted, and the others go on."""
    for number, part in enumerate(parts, 1):
        progress(f"--- {part}, part {number} of {len(parts)}")
        try:
            PARTS[part](lab)
        except KeyboardInterrupt:
            progress("broken off")
            return False
        except (ServiceFailedError, SubprocessError) as error:
            progress(f"{part}: {error}")
            lab.skipped[f"the rest of {part}"] = str(error)
    return True


if __name__ == "__main__":
    main()
