"""What a scenario has shown: the row that it gives the table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

KEPT_FAILURES = 20
"""Failed runs whose seed and error are kept; those beyond are only counted."""


@dataclass
class LeftOver:
    """What is there after a scenario and was not there before it; ``None`` where the machine does not say.

    Attributes:
        tasks: tasks of the event loop that still run.
        connections: connections that nats-server still has.
        pending: requests that a service had accepted and not ended when its block was left.
        files: open file descriptors of the process.
        memory_kib: growth of the process in KiB from the end of the warm-up to the end of the last run.
        objects: the same in Python objects.
    """

    tasks: int = 0
    connections: int = 0
    pending: int = 0
    files: int | None = None
    memory_kib: int | None = None
    objects: int = 0


@dataclass
class Tally:
    """The figures of one scenario on one form of the library.

    Attributes:
        form: the backend and the core, as ``trio-compiled``.
        scenario: its name.
        seconds: how long it has run.
        runs: how often it was repeated.
        requests: requests that were sent and had to be answered.
        cut_off: those of them that a fault of the scenario's own making took: the server or the network was gone.
        lost: those that nobody answered although nothing was in the way.
        hung: runs that did not end within their time.
        failed: runs in which something was not as it must be, each with its seed and its error.
        left: what was left over; ``None`` while the scenario runs, and if it was interrupted.
    """

    form: str
    scenario: str
    seconds: float = 0.0
    runs: int = 0
    requests: int = 0
    cut_off: int = 0
    lost: int = 0
    hung: int = 0
    failed: int = 0
    failures: list[dict[str, Any]] = field(default_factory=list)
    left: LeftOver | None = None

    def note_failure(self, seed: int, error: str) -> None:
        """Note a run that failed, or hung."""
        if len(self.failures) < KEPT_FAILURES:
            self.failures.append({"seed": seed, "error": error})

    @property
    def is_good(self) -> bool:
        """Whether nothing was lost, hung, wrong or left over; memory is for people to judge."""
        left = self.left
        has_left = left is not None and (left.tasks, left.connections, left.pending, left.files or 0) != (0, 0, 0, 0)
        return not (self.lost or self.hung or self.failed or has_left)
