"""The ways in which natsery connects, the event loops that it runs in, and the core that it runs on."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from ssl import create_default_context
from typing import Any

import nats

import natsery

try:
    from natsery import CORE
except ImportError:
    CORE = "python"  # the only one there is

TRANSPORTS = ("native", "adapted", "bridged")

BACKENDS: dict[str, tuple[str, dict[str, Any]]] = {
    "trio": ("trio", {}),
    "asyncio": ("asyncio", {}),
    "uvloop": ("asyncio", {"use_uvloop": True}),
}


def describe(*packages: str) -> str:
    """Their versions, natsery's core, and the version of Python."""
    found = {name: f"{name} {version(name)}" for name in packages}
    if "natsery" in found:
        found["natsery"] += f" ({CORE} core)"
    return ", ".join([*found.values(), f"Python {sys.version.split()[0]}"])


def nats_py_options(authority: str | None) -> dict[str, Any]:
    """What nats-py wants for TLS, or for none."""
    # nats-py sends in clear, whatever its options, unless the server requires TLS or the handshake comes first.
    return {"tls": create_default_context(cafile=authority), "tls_handshake_first": True} if authority else {}


@asynccontextmanager
async def open_connection(
    transport: str, url: str, authority: str | None = None
) -> AsyncIterator[natsery.abc.Connection]:
    """A connection of that kind; ``"adapted"`` needs asyncio. A file with a certificate authority stands for TLS."""
    if transport == "native":
        tls = create_default_context(cafile=authority) if authority else False
        async with natsery.connect(url, tls=tls) as nc:
            yield nc
    elif transport == "bridged":
        async with natsery.bridge(url, **nats_py_options(authority)) as nc:
            yield nc
    else:
        client = await nats.connect(url, **nats_py_options(authority))
        async with natsery.adapt(client) as nc:
            yield nc
        await client.close()
