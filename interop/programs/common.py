"""What the Python programs share: the contract, the commands on standard input, the way to collect replies."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

SECONDS = 20


def contract() -> SimpleNamespace:
    """The contract, from the third argument."""
    return SimpleNamespace(**json.loads(sys.argv[3]))


async def obey(ready: dict[str, Any], reset: Callable[[], Awaitable[None]]) -> None:
    """Say that the service is live, then do what standard input says, to its end."""
    print("ready", json.dumps(ready), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        assert line == "reset\n", line
        await reset()
        print("done", flush=True)


def versions(*names: str) -> str:
    """Of distributions, and of the Python that runs them."""
    return ", ".join([*(f"{name} {version(name)}" for name in names), f"Python {sys.version.split()[0]}"])


def targets() -> dict[str, tuple[str | None, str | None, int]]:
    """Whom to ask in the three ways that there are, and how many of them are to answer."""
    name, instance, count = sys.argv[3], sys.argv[4], int(sys.argv[5])
    return {"all": (None, None, count), "name": (name, None, count), "id": (name, instance, 1)}
