"""Show names where they are public, as a reader would write them, and check those of other libraries."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
from dataclasses import is_dataclass
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.ext.napoleon import Config, GoogleDocstring
from sphinx.pycode import ModuleAnalyzer

import natsery
import natsery.otel
import natsery.prometheus
import natsery.testing

MODULES = (natsery, natsery.abc, natsery.otel, natsery.prometheus, natsery.testing)

EXPLAINED_IN_TEXT = {
    "EndpointOptions",
    "FileSecret",
    "GroupOptions",
    "Secret",
    "Sign",
    "StreamOptions",
    "TLSContext",
}
"""Types in signatures that are not public, and that the text below the signature explains."""

IMPORTED_FROM = {
    "AbstractAsyncContextManager": "contextlib.AbstractAsyncContextManager",
    "AbstractContextManager": "contextlib.AbstractContextManager",
    "Client": "nats.aio.client.Client",
    "TaskStatus": "anyio.abc.TaskStatus",
    "datetime": "datetime.datetime",
}
"""Names that signatures give without their module."""

TYPE_VARIABLE = re.compile(r"(.*\.)?(\w*T|T_\w+)")


def read_source(module: str) -> ModuleAnalyzer | None:
    """Read the source of a module, unless it is compiled."""
    if not (importlib.import_module(module).__file__ or "").endswith(".py"):
        return None
    source = ModuleAnalyzer.for_module(module)
    source.analyze()
    return source


def read_sources_of_exports(_app: Sphinx) -> None:
    """Have Sphinx find what it reads from sources (texts of constants, overloads, order) where an export comes from."""
    for module in MODULES:
        public = ModuleAnalyzer.for_module(module.__name__)
        public.analyze()
        for line in inspect.getsource(module).splitlines():
            if export := re.fullmatch(r"from (\.+\w[\w.]*) import (\w+) as \2", line):
                package = module.__name__ if hasattr(module, "__path__") else module.__name__.rpartition(".")[0]
                private = read_source(importlib.util.resolve_name(export[1], package))
                if private is None:
                    continue
                for found in ("annotations", "attr_docs", "overloads", "tagorder"):
                    getattr(public, found).update(getattr(private, found))
                read_sources_of_parts(public, getattr(module, export[2]))


def read_sources_of_parts(public: ModuleAnalyzer, value: Any) -> None:
    """Have Sphinx find the overloads and the order of what a class takes from private ones, as if they were its own."""
    for part in inspect.getmro(value)[1:] if inspect.isclass(value) else ():
        private = read_source(part.__module__) if re.match(r"natsery\..*\b_", part.__module__) else None
        if private is None:
            continue
        for name in sorted(vars(part), key=lambda name: private.tagorder.get(f"{part.__name__}.{name}", 0)):
            found, own = f"{part.__name__}.{name}", f"{value.__name__}.{name}"
            if found in private.overloads:
                private.overloads.setdefault(own, private.overloads[found])  # it looks there, under the public name
            if found in private.tagorder:
                public.tagorder.setdefault(own, len(public.tagorder))


def write_signature(
    _app: Sphinx, what: str, _name: str, value: Any, _options: Any, signature: str | None, returns: str | None
) -> tuple[str, str | None] | None:
    """Leave out what cannot be written in a call, and say which functions are used in a ``with``."""
    if signature is None:
        return None
    if what in {"class", "exception"} and not is_dataclass(value) and "Args:" not in (inspect.getdoc(value) or ""):
        return "", None  # natsery makes it
    signature = re.sub(r", \*\*\w+: Never", "", signature)
    signature = re.sub(r" ?= ?<(?:[^<>]|<[^<>]*>)*>", " = ...", signature)
    if returns and hasattr(value, "__wrapped__"):
        returns = re.sub(r"^(~[\w.]*\.)?AsyncIterator\[", "~contextlib.AbstractAsyncContextManager[", returns)
        returns = re.sub(
            r"^(~[\w.]*\.)?AsyncGenerator\[(.*), None\]", r"~contextlib.AbstractAsyncContextManager[\2]", returns
        )
        returns = re.sub(r"^(~[\w.]*\.)?Iterator\[", "~contextlib.AbstractContextManager[", returns)
    return signature, returns


def read_sections(_app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Read ``Args:`` and the like. Of constants and properties, no type stands before a colon: it is in the annotation."""
    what = "class" if what in {"attribute", "data", "property"} else what
    text = "\n".join(GoogleDocstring(lines, Config(), None, what, name, value, options).lines())
    # An attribute's type belongs into its signature.
    pattern = r"^(\.\. attribute:: .*)\n((?:\n|   .*\n)*?)(   :type: .*)$"
    lines[:] = re.sub(pattern, r"\1\n\3\n\2", text, flags=re.MULTILINE).splitlines()


def leave_out_bases(_app: Sphinx, _name: str, _cls: type, _options: Any, bases: list[Any]) -> None:
    """Leave out the bases that a reader cannot use: private ones, and ``object``."""
    bases[:] = [
        base for base in bases if base is not object and not re.search(r"\._|^typing$", getattr(base, "__module__", ""))
    ]


def leave_out_no_bases(_app: Sphinx, _domain: str, _kind: str, content: nodes.Element) -> None:
    """Leave out the paragraph that lists a class's bases if there are none left."""
    if content.children and content.children[0].astext().strip() == "Bases:":
        del content.children[0]


def resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, contents: nodes.TextElement) -> nodes.Node | None:
    """Find a name of natsery's by its end, and let one of another library stand if that library has it."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    if target.rpartition(".")[2] in EXPLAINED_IN_TEXT or TYPE_VARIABLE.fullmatch(target):
        return contents
    for module in MODULES:
        known = env.domains.python_domain.objects
        if (name := f"{module.__name__}.{target}") in known:
            return env.domains.python_domain.resolve_xref(env, node["refdoc"], app.builder, "obj", name, node, contents)
    return contents if exists(target) else None


def exists(name: str) -> bool:
    """Whether a name is a built-in one or can be imported, or is a member of what can be."""
    name = IMPORTED_FROM.get(name, name)
    parent, _, last = name.rpartition(".")
    try:
        found: Any = importlib.import_module(parent or "builtins")
    except ImportError:
        module, _, parent = parent.rpartition(".")
        try:
            found = getattr(importlib.import_module(module), parent)
        except (ImportError, AttributeError, ValueError):
            return False
    return hasattr(found, last) or last in getattr(found, "__dataclass_fields__", ())


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect all of it."""
    app.connect("builder-inited", read_sources_of_exports)
    app.connect("autodoc-process-docstring", read_sections)
    app.connect("autodoc-process-signature", write_signature)
    app.connect("autodoc-process-bases", leave_out_bases)
    app.connect("object-description-transform", leave_out_no_bases)
    app.connect("missing-reference", resolve, priority=900)  # after the inventories of other libraries
    return {"parallel_read_safe": True}
