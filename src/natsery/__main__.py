"""The entry point of the ``natsery`` command."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from natsery_command import INTERRUPTS

NEEDS_CLI = "natsery: this command needs click and rich; run: pip install 'natsery[cli]'\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    try:
        with INTERRUPTS:
            status = _main(arguments)
            INTERRUPTS.check()  # trio raises where Ctrl-C strikes, which may be such a place, too
            return status
    except KeyboardInterrupt:
        sys.stderr.write("natsery: interrupted\n")
        return 130


def _main(arguments: Sequence[str] | None) -> int:
    try:
        import click
        import rich  # noqa: F401  # tried here, so that its absence is one clear line
    except ImportError:
        sys.stderr.write(NEEDS_CLI)
        return 1
    import natsery

    from ._cli._app import cli
    from ._cli._exit_codes import CommandError, Exit, line_of, status_of

    INTERRUPTS.check()
    _replace_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        # A character that the terminal cannot show must not end the command.
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
    try:
        status = cli.main(arguments, prog_name="natsery", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.UsageError as error:
        hint = "" if error.ctx is None else f" (see '{error.ctx.command_path} --help')"
        CommandError(f"{' '.join(error.format_message().split())}{hint}").show()
        return Exit.USAGE
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        raise KeyboardInterrupt from None
    except BrokenPipeError:
        # The reader of the output is gone; the interpreter must not try to flush into it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILED
    except (natsery.NatseryError, OSError) as error:
        CommandError(line_of(error)).show()
        return status_of(error)
    return int(status or Exit.OK)


def _replace_closed_streams() -> None:
    """Open the null device in place of stdin, stdout and stderr that are closed, as after ``>&-``; Python has ``None`` there."""
    # In this order, since each takes the lowest descriptor that is free: that of the stream. Sockets must not get it.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115  # open until the end


if __name__ == "__main__":
    sys.exit(main())
