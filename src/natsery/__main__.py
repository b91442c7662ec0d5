"""The ``natsery`` command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from ._demo import run_demo
from ._server import ServerError

INTERRUPTED = 130
"""The exit status after Ctrl-C, as shells have it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = argparse.ArgumentParser(prog="natsery", description="NATS services (ADR-32) for trio and asyncio.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser(
        "demo",
        help="serve an example on a server of its own, and show what happens",
        description="Start a nats-server on this machine, serve the calc example on trio, send it requests, "
        "show what discovery says of it, and stop. Takes about a second; needs natsery[server].",
    )
    if parser.parse_args(arguments).command is None:
        parser.print_help(sys.stderr)
        return 2
    try:
        run_demo()
    except ServerError as error:
        sys.stderr.write(f"natsery: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("natsery: interrupted; everything is stopped\n")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has left; the interpreter must not try to flush into it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
