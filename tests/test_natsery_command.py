"""The script ``natsery``; what stops it in the middle of its imports is with the failures of the command."""

from __future__ import annotations

import sys

import pytest

import natsery
import natsery_command


def test_it_runs_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["natsery", "--version"])
    assert natsery_command.main() == 0
    assert natsery.__version__ in capsys.readouterr().out
