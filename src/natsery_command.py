"""The script ``natsery``: imports the command where Ctrl-C is already one line, and not a traceback of imports."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


def main() -> int:
    """Run the command and return its exit status."""
    with keeping_interrupts():
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


class InterruptKeeper:
    """A ``sys.unraisablehook`` that remembers a Ctrl-C where Python cannot raise its ``KeyboardInterrupt``.

    That is so in callbacks of weak references, of which imports have many: there it would be printed, and forgotten.
    """

    def __init__(self) -> None:
        self.was_interrupted = False
        self._others = sys.unraisablehook

    def __call__(self, unraisable: sys.UnraisableHookArgs) -> None:
        """Note a Ctrl-C, and leave all else to the hook that was there before."""
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            self.was_interrupted = True
        else:
            self._others(unraisable)


@contextmanager
def keeping_interrupts() -> Iterator[None]:
    """For the length of a block, remember them for `raise_kept_interrupt`; blocks may be nested."""
    before = sys.unraisablehook
    if not isinstance(before, InterruptKeeper):
        sys.unraisablehook = InterruptKeeper()
    try:
        yield
    finally:
        sys.unraisablehook = before


def raise_kept_interrupt() -> None:
    """Raise the ``KeyboardInterrupt`` that could not be raised, if there was one."""
    keeper = sys.unraisablehook
    if isinstance(keeper, InterruptKeeper) and keeper.was_interrupted:
        raise KeyboardInterrupt
