"""The one list of private names of nats-py: complete, right for the installed version, and checked before use."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import nats
import nats.aio.client
import nats.aio.msg
import nats.aio.subscription
import nats.aio.transport
import pytest
from nats.aio.client import Client

import natsery
from natsery import _nats_py
from natsery._nats_py import _worker_thread
from natsery._nats_py._private_names import PRIVATE_NAMES, check_private_names

from ..bounds import bounded
from ..server import NatsServer

FOLDER = Path(_nats_py.__file__).parent
LISTED = {name for names in PRIVATE_NAMES.values() for name in names}
LIST_FILE = FOLDER / "_private_names.py"
SOURCES = [path for path in sorted(FOLDER.glob("*.py")) if path != LIST_FILE]
FOREIGN = (nats.aio.client, nats.aio.msg, nats.aio.subscription, nats.aio.transport)


def is_private(name: str) -> bool:
    return re.fullmatch(r"_[a-z]\w*", name) is not None and name != "_replace"  # a named tuple's, and public


def defined_in(tree: ast.AST) -> set[str]:
    """The private names that a module defines: functions, and attributes that it sets or declares on ``self``."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_self(node.value):
            found.add(node.attr)
    return {name for name in found if is_private(name)}


def is_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def own_names() -> set[str]:
    return {name for path in Path(natsery.__file__).parent.rglob("*.py") for name in defined_in(parsed(path))}


@cache
def their_names() -> set[str]:
    return {name for module in FOREIGN for name in defined_in(ast.parse(inspect.getsource(module)))}


def foreign_names(tree: ast.AST) -> Iterator[str]:
    """Private names that belong to others' objects, or may: used on something else than ``self`` and known to nats-py."""
    for top in ast.walk(tree):
        if isinstance(top, ast.ClassDef):
            own = own_names()
            if "Client" in {getattr(base, "id", "") for base in top.bases}:
                own = defined_in(top) - their_names()
                yield from defined_in(top) & their_names()  # overridden
            attributes = [node for node in ast.walk(top) if isinstance(node, ast.Attribute) and is_self(node.value)]
            yield from (node.attr for node in attributes if is_private(node.attr) and node.attr not in own)
        elif isinstance(top, ast.Attribute) and is_private(top.attr) and not is_self(top.value):
            if top.attr not in own_names() or top.attr in their_names():
                yield top.attr
        elif isinstance(top, ast.Constant) and isinstance(top.value, str) and is_private(top.value):
            yield top.value  # for `getattr`


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_only_listed_private_names_of_others_are_used(path: Path) -> None:
    assert set(foreign_names(parsed(path))) <= LISTED


@pytest.mark.parametrize(
    "source",
    [
        "client._nuid",
        "getattr(client, '_nuid')",
        "self.client._nuid = 1",
        "client._emit._closed",  # natsery has objects with this name too
        "class A(Client):\n def f(self): self._nuid",
        "class A(Client):\n def _nuid(self): pass",
        "class A:\n def f(self): self._nuid",
    ],
)
def test_a_private_name_of_others_is_found(source: str) -> None:
    assert set(foreign_names(ast.parse(source))) & {"_nuid", "_closed"}


def test_every_listed_name_is_used() -> None:
    used = {name for path in SOURCES for name in foreign_names(parsed(path))}
    assert used == LISTED


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_installed_version_has_them_all() -> None:
    check_private_names(Client())


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_adapt_refuses_a_version_that_lacks_one(nats_server: NatsServer) -> None:
    client = await nats.connect(nats_server.url)
    try:
        flush_queue = client.__dict__.pop("_flush_queue")
        async with bounded():
            with pytest.raises(
                natsery.BackendMismatchError, match=r"supports nats-py 2\.16.* has no Client\._flush_queue.*pip install"
            ):
                async with natsery.adapt(client):
                    pass
        client._flush_queue = flush_queue
    finally:
        await client.close()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_bridge_refuses_a_version_that_lacks_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class OtherClient(Client):
        def __init__(self) -> None:
            super().__init__()
            del self._pending

    monkeypatch.setattr(_worker_thread, "Client", OtherClient)
    async with bounded():
        with pytest.raises(natsery.BackendMismatchError, match=r"has no Client\._pending"):
            async with natsery.bridge():
                pass
