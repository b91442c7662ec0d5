"""The script ``natsery``: imports the command where Ctrl-C is already one line, and not a traceback of imports."""

from __future__ import annotations

import sys


class InterruptKeeper:
    """A context manager that keeps each Ctrl-C whose ``KeyboardInterrupt`` Python cannot raise, until `check` does.

    That is so in callbacks of weak references, of which imports have many; there it would be printed, and forgotten. Blocks may
    be nested. ``python -m natsery`` begins one when the package has been imported, the script before.
    """

    def __init__(self) -> None:
        self._was_interrupted = False
        self._depth = 0
        self._others = sys.unraisablehook

    def __enter__(self) -> None:
        if self._depth == 0:
            self._was_interrupted = False
            self._others, sys.unraisablehook = sys.unraisablehook, self
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0 and sys.unraisablehook is self:  # a program that is served may have put its own there
            sys.unraisablehook = self._others

    def __call__(self, unraisable: sys.UnraisableHookArgs) -> None:
        """Keep a Ctrl-C, and leave all else to the hook that was there before."""
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            self._was_interrupted = True
        else:
            self._others(unraisable)

    def check(self) -> None:
        """Raise the ``KeyboardInterrupt`` that could not be raised, if there was one."""
        if self._was_interrupted:
            self._was_interrupted = False
            raise KeyboardInterrupt


INTERRUPTS = InterruptKeeper()
"""Those of this process, whose one hook for such errors belongs to the command while it runs."""


def main() -> int:
    """Run the command and return its exit status."""
    with INTERRUPTS:
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
