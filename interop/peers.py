"""The other implementations: how each is got, and what it says where ADR-32 is silent or it differs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks.installations import c_program, go_program, java_program, node_with, python_with, rust_program

PROGRAMS = Path(__file__).parent / "programs"

NODE_PACKAGES = ("@nats-io/services@3.0.0-25", "@nats-io/transport-node@3.4.0")
NATS_MICRO = "nats-micro==0.0.5"
NATSIO = "natsio==1.0.1"
NATS_COMMAND = "github.com/nats-io/natscli/nats@v0.5.0"

RAISED = "the colour of the database"
"""What the handlers that fail say."""


@dataclass(frozen=True)
class Peer:
    """Another implementation.

    Attributes:
        title: for people.
        get: makes the command that runs it, with a folder for installations.
        unexpected: code and text that the requester reads when its handler fails.
        unicode: code and text that the requester reads when its handler answers with an error that is not ASCII.
        error_data: whether its errors have payloads.
        errors: ``num_errors`` and ``last_error`` after its handler answered 400, and after it failed as well.
        resets: what a reset changes: ``numbers``, ``last_error``, ``started``.
        data: the ``data`` in the statistics of a service that has no handler for it.
        needs_data: whether its types read only statistics that have ``data``.
        metadata_in: which of its replies have the service's metadata.
        reads_stats_metadata: whether its types keep that of statistics.
        omits_empty: whether its types leave out of replies what is empty or zero.
    """

    title: str
    get: Callable[[Path], list[str]]
    unexpected: tuple[int, str]
    errors: tuple[tuple[int, str], tuple[int, str]]
    unicode: tuple[int, str] = (400, "größer als 10: 数 🧮")
    error_data: bool = True
    resets: frozenset[str] = frozenset({"numbers", "last_error", "started"})
    data: object = None
    needs_data: bool = False
    metadata_in: frozenset[str] = frozenset({"PING", "INFO", "STATS"})
    reads_stats_metadata: bool = True
    omits_empty: bool = False


def _nats_py(_: Path) -> list[str]:
    return [sys.executable, str(PROGRAMS / "nats_py.py")]


def _nats_micro(folder: Path) -> list[str]:
    nats_py = version("nats-py")
    python = python_with(folder, f"{NATS_MICRO}-{nats_py}", f"{NATS_MICRO} nats-py=={nats_py}")
    return [python, str(PROGRAMS / "nats_micro.py")]


def _natsio(folder: Path) -> list[str]:
    python = python_with(folder, NATSIO, NATSIO, needs=(3, 13))
    return [python, str(PROGRAMS / "natsio_micro.py")]


def _nats_js(folder: Path) -> list[str]:
    versions = "-".join(package.rpartition("@")[2] for package in NODE_PACKAGES)
    node, modules = node_with(folder / f"node-{versions}", *NODE_PACKAGES)
    return [node, str(PROGRAMS / "nats_js.mjs"), str(modules)]


def _nats_go(folder: Path) -> list[str]:
    return [go_program(folder, str(PROGRAMS / "nats_go"))]


def _jnats(folder: Path) -> list[str]:
    return java_program(folder, PROGRAMS / "jnats" / "Interop.java")


def _nats_rs(folder: Path) -> list[str]:
    return [rust_program(folder, PROGRAMS / "nats_rs")]


def _nats_c(folder: Path) -> list[str]:
    # Debian has them since version 13, as libnats-dev and libjansson-dev.
    return [c_program(folder, PROGRAMS / "nats_c" / "main.c", "libnats >= 3.9", "jansson")]


def nats_command(folder: Path) -> list[str]:
    """The ``nats`` command."""
    return [go_program(folder, NATS_COMMAND)]


PEERS = {
    "nats-py": Peer(
        "nats-py micro",
        _nats_py,
        # It sends the exception's repr, and counts none of the errors that a handler answers itself.
        unexpected=(500, f"LookupError('{RAISED}')"),
        errors=((0, ""), (1, f"LookupError('{RAISED}')")),
        # A reset restarts `started` and nothing else.
        resets=frozenset({"started"}),
        needs_data=True,
    ),
    "nats-micro": Peer(
        "nats-micro",
        _nats_micro,
        unexpected=(500, "Internal Server Error"),
        # It counts none of the errors that a handler answers itself, and its `last_error` has no code.
        errors=((0, ""), (1, f"LookupError('{RAISED}')")),
        data={},
    ),
    "nats-js": Peer(
        "@nats-io/services",
        _nats_js,
        # It sends the exception's message.
        unexpected=(500, RAISED),
        # It counts none of the errors that a handler answers itself, and its `last_error` has no code.
        errors=((0, ""), (1, RAISED)),
    ),
    "nats-go": Peer(
        "nats.go micro",
        _nats_go,
        # A handler of Go cannot fail but by saying so itself.
        unexpected=(500, RAISED),
        errors=((1, "400:no such thing"), (2, f"500:{RAISED}")),
    ),
    "jnats": Peer(
        "jnats service",
        _jnats,
        # It sends the exception's class and message, and counts none of the errors that a handler answers itself.
        unexpected=(500, f"java.lang.IllegalStateException: {RAISED}"),
        errors=((0, ""), (1, f"java.lang.IllegalStateException: {RAISED}")),
        # It refuses to make the header, so the handler fails.
        unicode=(500, "java.lang.IllegalArgumentException: Header value has invalid character: 0xf6"),
        error_data=False,
        omits_empty=True,
    ),
    "nats-rs": Peer(
        "async-nats service",
        _nats_rs,
        # A handler of Rust reports its failures itself.
        unexpected=(500, RAISED),
        errors=((1, "400:no such thing"), (2, f"500:{RAISED}")),
        error_data=False,
        # A reset keeps `last_error` and `started`.
        resets=frozenset({"numbers"}),
        metadata_in=frozenset({"PING", "INFO"}),
        reads_stats_metadata=False,
    ),
    "nats-c": Peer(
        "nats.c micro",
        _nats_c,
        unexpected=(500, RAISED),
        # It has words of its own in its `last_error`.
        errors=((1, "code 400: no such thing"), (2, f"code 500: {RAISED}")),
        # It cannot reset its numbers.
        resets=frozenset(),
        metadata_in=frozenset({"INFO"}),
    ),
    "natsio": Peer(
        "natsio micro",
        _natsio,
        # It sends the exception's text.
        unexpected=(500, RAISED),
        errors=((1, "400:no such thing"), (2, f"500:{RAISED}")),
    ),
}
