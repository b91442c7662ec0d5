"""The script ``natsery``: imports the command where Ctrl-C is already one line, and not a traceback of imports."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command and return its exit status."""
    try:
        from natsery.__main__ import main as run
    except KeyboardInterrupt:
        sys.stderr.write("natsery: interrupted\n")
        return 130
    return run()
