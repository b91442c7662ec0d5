"""What becomes of workers that end unasked."""

from __future__ import annotations

import pytest

from natsery._cli._exit_codes import Exit
from natsery._cli._run._restarts import STEADY_SECONDS, GiveUp, Restart, Restarts, describe_exit

CRASH = -9


def pauses(restarts: Restarts, count: int, served: float = 0) -> list[float]:
    decisions = [restarts.decide(CRASH, served, proven=True) for _ in range(count)]
    return [each.pause for each in decisions if isinstance(each, Restart)]


def test_the_pause_doubles_and_the_fifth_failure_in_a_row_is_the_last() -> None:
    restarts = Restarts()
    assert pauses(restarts, 4, served=4.9) == [0.1, 0.2, 0.4, 0.8]
    reason = "it ended 5 times in a row without having served for 5 s"
    assert restarts.decide(CRASH, 0, proven=True) == GiveUp(reason)


def test_a_worker_that_was_well_begins_anew() -> None:
    restarts = Restarts()
    pauses(restarts, 4)
    assert restarts.decide(CRASH, STEADY_SECONDS, proven=True) == Restart(0.1)
    assert pauses(restarts, 3) == [0.2, 0.4, 0.8]
    assert pauses(Restarts(), 1000, served=3600) == [0.1] * 1000


def test_the_pause_has_an_upper_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("natsery._cli._run._restarts.MAX_CRASHES", 100)
    assert pauses(Restarts(), 9)[-2:] == [10.0, 10.0]


def test_what_cannot_be_served_is_given_up_at_once_unless_it_has_been_served_before() -> None:
    assert Restarts().decide(Exit.USAGE, 0, proven=False) == GiveUp("the service cannot be served as it is")
    assert Restarts().decide(Exit.USAGE, 0, proven=True) == Restart(0.1)
    assert Restarts().decide(Exit.UNREACHABLE, 0, proven=False) == Restart(0.1)


def test_an_end_that_nobody_asked_for_counts_however_good_it_was() -> None:
    restarts = Restarts()
    decisions = [restarts.decide(Exit.OK, 0, proven=True) for _ in range(5)]
    assert isinstance(decisions[-1], GiveUp)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "ended with status 0"),
        (3, "ended with status 3"),
        (-9, "was ended by SIGKILL"),
        (-99, "was ended by signal 99"),
    ],
)
def test_how_a_process_ended_in_words(status: int, words: str) -> None:
    assert describe_exit(status) == words
