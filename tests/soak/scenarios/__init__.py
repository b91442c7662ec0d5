"""The scenarios of the soak."""

from __future__ import annotations

from ..harness import Scenario
from .ageing import ageing
from .cancellation import cancellation_memory, cancellation_native
from .cuts import cuts
from .drains import drains
from .floods import floods
from .members import members
from .restarts import restarts
from .sharing import sharing
from .slow_peers import slow_peers
from .steady import steady

SCENARIOS: dict[str, Scenario] = {
    scenario.__name__: scenario
    for scenario in (
        steady,
        drains,
        members,
        cancellation_memory,
        cancellation_native,
        restarts,
        cuts,
        slow_peers,
        floods,
        sharing,
        ageing,
    )
}
"""All of them, by name."""
