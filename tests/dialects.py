"""Replies to PING, INFO and STATS as services in other languages send them, and what a reader makes of each."""

from __future__ import annotations

import json
from pathlib import Path

CASES = {
    case["name"]: case for case in json.loads((Path(__file__).parent / "data" / "control_replies.json").read_text())
}
