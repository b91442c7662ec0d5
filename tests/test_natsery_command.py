"""The script ``natsery``; what stops it in the middle of its imports is with the failures of the command."""

from __future__ import annotations

import sys
import weakref

import pytest

import natsery
import natsery_command
from natsery.__main__ import main
from natsery._cli._app import cli
from natsery_command import InterruptKeeper


def test_it_runs_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["natsery", "--version"])
    assert natsery_command.main() == 0
    assert natsery.__version__ in capsys.readouterr().out


def raise_where_nobody_can_catch(error: BaseException) -> None:
    """Raise an error in the callback of a weak reference."""

    class GivenUp:
        pass

    def fail(_: object) -> None:
        raise error

    given_up = GivenUp()
    reference = weakref.ref(given_up, fail)
    del given_up
    assert reference() is None


def test_an_interrupt_that_could_not_be_raised_is_raised_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing else is; the blocks of the script and of the command, one in the other, are as one."""
    others: list[BaseException | None] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: others.append(unraisable.exc_value))
    before, errors = sys.unraisablehook, [LookupError(), LookupError()]
    interrupts = InterruptKeeper()
    with interrupts:
        raise_where_nobody_can_catch(errors[0])
        interrupts.check()
        raise_where_nobody_can_catch(KeyboardInterrupt())
        with interrupts:
            raise_where_nobody_can_catch(errors[1])
            with pytest.raises(KeyboardInterrupt):
                interrupts.check()
        interrupts.check()
    assert sys.unraisablehook is before
    assert others == errors


def test_a_hook_of_the_program_s_own_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """It hands on what it was given, as those of error reporters do."""
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    interrupts = InterruptKeeper()

    def own(unraisable: sys.UnraisableHookArgs) -> None:
        interrupts(unraisable)

    with interrupts:
        sys.unraisablehook = own
        raise_where_nobody_can_catch(KeyboardInterrupt())
        with interrupts, pytest.raises(KeyboardInterrupt):
            interrupts.check()
    assert sys.unraisablehook is own


def test_an_interrupt_that_could_not_be_raised_while_the_command_ran_gives_status_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*_: object, **__: object) -> int:
        raise_where_nobody_can_catch(KeyboardInterrupt())
        return 0

    monkeypatch.setattr(cli, "main", run)
    assert main() == 130
    assert capsys.readouterr().err == "natsery: interrupted\n"
