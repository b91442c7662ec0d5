"""Whom the benchmarks can measure: each peer's name, and the commands that run its echo service and its client."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

from installations import UnavailableError, go_program, java_program, node_with, python_with, rust_program
from transports import CORE

HERE = Path(__file__).parent

REQUEST, PUBLISH, RECEIVE = "request", "publish", "receive"
ALL_WORKS = (REQUEST, PUBLISH, RECEIVE)


@dataclass(frozen=True)
class Peer:
    """An echo service; its command, made with a folder for installations, takes a URL and a subject at the end.

    Some take ``--tls`` with a file before that.
    """

    title: str
    command: Callable[[Path], list[str]]
    takes_tls: bool = False


@dataclass(frozen=True)
class Client:
    """A client, and what it is measured at.

    Its command, made with a folder for installations, takes at the end a URL, a subject, which of these to do, how often,
    how often before that to warm up, and how many callers.
    """

    title: str
    command: Callable[[Path], list[str]]
    works: tuple[str, ...] = ALL_WORKS


PeerT = TypeVar("PeerT", Peer, Client)


def own_command(key: str) -> list[str]:
    """The command of a peer that runs in this Python."""
    return [sys.executable, str(HERE / "peer.py"), key]


def _own(title: str, key: str) -> Peer:
    return Peer(title, lambda _: own_command(key), takes_tls=True)


def _on_python_core(peer: PeerT) -> PeerT:
    def command(folder: Path) -> list[str]:
        if CORE == "python":
            raise UnavailableError("natsery runs on the python core already")
        return ["env", "NATSERY_CORE=python", *peer.command(folder)]

    return replace(peer, title=f"{peer.title}, python core", command=command)


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
    return [go_program(folder, str(HERE / "others" / "nats_go")), "serve"]


def _nats_rs(folder: Path) -> list[str]:
    return [rust_program(folder, HERE / "others" / "nats_rs", optimised=True)]


def _jnats(folder: Path) -> list[str]:
    return java_program(folder, HERE / "others" / "jnats" / "Echo.java", optimised=True)


def _bare_socket(_: Path) -> list[str]:
    return [sys.executable, str(HERE / "others" / "bare_socket.py")]


BASELINE = "nats-py"

PEERS = {
    BASELINE: _own("nats-py micro, asyncio", "nats-py"),
    "native-trio": _own("natsery native, trio", "native-trio"),
    "native-asyncio": _own("natsery native, asyncio", "native-asyncio"),
    "native-uvloop": _own("natsery native, uvloop", "native-uvloop"),
    "python-trio": _on_python_core(_own("natsery native, trio", "native-trio")),
    "python-asyncio": _on_python_core(_own("natsery native, asyncio", "native-asyncio")),
    "python-uvloop": _on_python_core(_own("natsery native, uvloop", "native-uvloop")),
    "adapted-asyncio": _own("natsery adapted, asyncio", "adapted-asyncio"),
    "adapted-uvloop": _own("natsery adapted, uvloop", "adapted-uvloop"),
    "bridged-trio": _own("natsery bridged, trio", "bridged-trio"),
    "nats-micro": Peer("nats-micro, asyncio", _nats_micro),
    "natsio": Peer("natsio micro, asyncio", _natsio),
    "nats-js": Peer("@nats-io/services, Node", _nats_js),
    "nats-go": Peer("nats.go micro", _nats_go),
    "nats-rs": Peer("async-nats service, Rust", _nats_rs),
    "jnats": Peer("jnats service, Java", _jnats),
    "bare-socket": Peer("(no service: a bare socket)", _bare_socket),
}


def _own_client(title: str, key: str, *works: str) -> Client:
    command = [sys.executable, str(HERE / "client_peer.py"), key]
    return Client(title, lambda _: command, works or ALL_WORKS)


def _with_deadlines(client: Client) -> Client:
    def command(folder: Path) -> list[str]:
        return [*client.command(folder), "--deadlines"]

    return Client(f"{client.title}, with deadlines", command, (REQUEST,))


def _nats_js_client(folder: Path) -> list[str]:
    node, modules = node_with(folder, "@nats-io/services", "@nats-io/transport-node")
    return [node, str(HERE / "others" / "nats_js_client.mjs"), str(modules)]


def _nats_go_client(folder: Path) -> list[str]:
    return [go_program(folder, str(HERE / "others" / "nats_go")), "use"]


_NATIVE_CLIENTS = {
    key: _own_client(f"natsery native, {key.removeprefix('native-')}", key)
    for key in ("native-trio", "native-asyncio", "native-uvloop")
}

CLIENTS = {
    BASELINE: _own_client("nats-py, asyncio", "nats-py"),
    "nats-py-loop": _own_client("nats-py, asyncio, `async for`", "nats-py-loop", RECEIVE),
    **_NATIVE_CLIENTS,
    **{f"{key}-deadlines": _with_deadlines(client) for key, client in _NATIVE_CLIENTS.items()},
    "python-trio": _on_python_core(_NATIVE_CLIENTS["native-trio"]),
    "python-asyncio": _on_python_core(_NATIVE_CLIENTS["native-asyncio"]),
    "python-uvloop": _on_python_core(_NATIVE_CLIENTS["native-uvloop"]),
    "service-trio": _own_client("natsery `ServiceClient`, trio", "service-trio", REQUEST),
    "service-asyncio": _own_client("natsery `ServiceClient`, asyncio", "service-asyncio", REQUEST),
    "service-uvloop": _own_client("natsery `ServiceClient`, uvloop", "service-uvloop", REQUEST),
    "nats-js": Client("@nats-io/transport-node", _nats_js_client),
    "nats-go": Client("nats.go", _nats_go_client),
}
