"""The table of docs/migrating.md has all of nats-micro."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from .peers import PEERS, PROGRAMS

TEXT = (Path(__file__).parent.parent / "docs" / "migrating.md").read_text(encoding="utf-8")

MODULES = ["nats_contrib.micro"] + [
    f"nats_contrib.micro.{name}" for name in ("api", "client", "context", "middleware", "request", "testing")
]


def test_the_table_has_every_public_name(got) -> None:
    python, *_ = got.command(PEERS["nats-micro"].title, PEERS["nats-micro"].get)
    program = [python, str(PROGRAMS / "public_calls.py"), *MODULES]
    names = json.loads(subprocess.run(program, check=True, capture_output=True, timeout=60).stdout)
    section = TEXT.partition("## From nats-micro\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| ([^|]*) \|", section, re.MULTILINE)
    named = {word for cell in cells for code in re.findall(r"`([^`]*)`", cell) for word in re.findall(r"\w+", code)}
    assert set(names) - named == set()
