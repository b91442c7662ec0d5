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
    except ImportError as error:
        if error.name != "natsery":
            raise
        # The core that NATSERY_CORE asks for is not there.
        sys.stderr.write(f"natsery: {error}\n")
        return 1
    return run()
