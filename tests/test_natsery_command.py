"""The script ``natsery``; what stops it in the middle of its imports is with the failures of the command."""

from __future__ import annotations

import sys
import weakref

import pytest

import natsery
import natsery_command
from natsery_command import keeping_interrupts, raise_kept_interrupt


def test_it_runs_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["natsery", "--version"])
    assert natsery_command.main() == 0
    assert natsery.__version__ in capsys.readouterr().out


def raise_where_nobody_can_catch(error: BaseException) -> None:
    """In the callback of a weak reference."""

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
    before, error = sys.unraisablehook, LookupError()
    with keeping_interrupts():
        raise_where_nobody_can_catch(error)
        raise_kept_interrupt()
        raise_where_nobody_can_catch(KeyboardInterrupt())
        with keeping_interrupts(), pytest.raises(KeyboardInterrupt):
            raise_kept_interrupt()
    assert sys.unraisablehook is before
    raise_kept_interrupt()
    assert others == [error]
