"""Whom the benchmarks can measure: each peer's name, and the command that runs its echo service."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from installations import UnavailableError, go_program, node_with, python_with, rust_program
from transports import CORE

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Peer:
    """An echo service; its command, made with a folder for installations, takes a URL and a subject at the end."""

    title: str
    command: Callable[[Path], list[str]]


def own_command(key: str) -> list[str]:
    """The command of a peer that runs in this Python."""
    return [sys.executable, str(HERE / "peer.py"), key]


def _own(key: str) -> Callable[[Path], list[str]]:
    return lambda _: own_command(key)


def _without_compiled_core(key: str) -> Callable[[Path], list[str]]:
    def command(_: Path) -> list[str]:
        if CORE == "python":
            raise UnavailableError(f"{PEERS[key].title} runs on the python core already")
        return ["env", "NATSERY_CORE=python", *own_command(key)]

    return command


def _nats_micro(folder: Path) -> list[str]:
    # Both on the same client, so that the services are what is compared.
    python = python_with(folder, "nats-micro", f"nats-micro==0.0.5 nats-py=={version('nats-py')}")
    return [python, str(HERE / "others" / "nats_micro.py")]


def _natsio(folder: Path) -> list[str]:
    python = python_with(folder, "natsio", "natsio==1.0.1", needs=(3, 13))
    return [python, str(HERE / "others" / "natsio_micro.py")]


def _nats_js(folder: Path) -> list[str]:
    node, modules = node_with(folder, "@nats-io/services", "@nats-io/transport-node")
    return [node, str(HERE / "others" / "nats_js.mjs"), str(modules)]


def _nats_go(folder: Path) -> list[str]:
    return [go_program(folder, str(HERE / "others" / "nats_go"))]


def _nats_rs(folder: Path) -> list[str]:
    return [rust_program(folder, HERE / "others" / "nats_rs", optimised=True)]


def _bare_socket(_: Path) -> list[str]:
    return [sys.executable, str(HERE / "others" / "bare_socket.py")]


BASELINE = "nats-py"

PEERS = {
    BASELINE: Peer("nats-py micro, asyncio", _own("nats-py")),
    "native-trio": Peer("natsery native, trio", _own("native-trio")),
    "native-asyncio": Peer("natsery native, asyncio", _own("native-asyncio")),
    "native-uvloop": Peer("natsery native, uvloop", _own("native-uvloop")),
    "python-trio": Peer("natsery native, trio, python core", _without_compiled_core("native-trio")),
    "python-asyncio": Peer("natsery native, asyncio, python core", _without_compiled_core("native-asyncio")),
    "python-uvloop": Peer("natsery native, uvloop, python core", _without_compiled_core("native-uvloop")),
    "adapted-asyncio": Peer("natsery adapted, asyncio", _own("adapted-asyncio")),
    "adapted-uvloop": Peer("natsery adapted, uvloop", _own("adapted-uvloop")),
    "bridged-trio": Peer("natsery bridged, trio", _own("bridged-trio")),
    "nats-micro": Peer("nats-micro, asyncio", _nats_micro),
    "natsio": Peer("natsio micro, asyncio", _natsio),
    "nats-js": Peer("@nats-io/services, Node", _nats_js),
    "nats-go": Peer("nats.go micro", _nats_go),
    "nats-rs": Peer("async-nats service, Rust", _nats_rs),
    "bare-socket": Peer("(no service: a bare socket)", _bare_socket),
}
