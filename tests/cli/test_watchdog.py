"""When the watchdog of ``natsery run`` takes an event loop for a hung one, with a clock of the test's."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence

import pytest

from natsery._cli._run._watchdog import Watchdog


class EndedError(Exception):
    """The process would have ended."""


class Looks:
    """In place of the event that ends the watch: lets it look so many times."""

    def __init__(self, number: int) -> None:
        self._left = number

    def wait(self, pause: float) -> bool:
        assert pause == 0.5
        self._left -= 1
        return self._left < 0


def watch(monkeypatch: pytest.MonkeyPatch, times: Sequence[float]) -> None:
    """Have a watchdog of two seconds look at these times; the event loop has beaten at 0."""

    def end(status: int) -> None:
        assert status == 1
        raise EndedError

    moments = iter([0.0, 0.0, *times])
    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: next(moments))
        patch.setattr(os, "_exit", end)
        watchdog = Watchdog(2, "", threading.get_ident())
        patch.setattr(watchdog, "_stopped", Looks(len(times)))
        watchdog.watch()


def test_a_loop_that_stands_still_for_so_long_has_hung(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    watch(monkeypatch, [0.5, 1.0, 1.5])
    assert capsys.readouterr().err == ""
    with pytest.raises(EndedError):
        watch(monkeypatch, [0.5, 1.0, 1.5, 2.0])
    assert "the event loop has stood still for 2 s; the process ends\n" in capsys.readouterr().err


def test_time_in_which_nobody_looked_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process was stopped, or the machine asleep: the event loop could not run either."""
    watch(monkeypatch, [0.5, 1000.0])
    with pytest.raises(EndedError):
        watch(monkeypatch, [0.5, 1000.0, 1000.5])
