"""Link public names and documents wherever a text has them as code, so that pages need no markup for it."""

from __future__ import annotations

import re

from docutils import nodes
from public_names import MODULES
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx

PUBLIC = {f"{module.__name__}.{name}" for module in MODULES for name in module.__all__}
WITHOUT_MODULE = {
    name.rpartition(".")[2]: name for name in PUBLIC if re.fullmatch(r"natsery\.((abc|testing)\.)?[A-Z]\w+", name)
}
"""Classes are also said by their names alone; functions are not, whose names are everyday words."""


def link(literal: nodes.literal, **target: str) -> None:
    """Put a link around a piece of code; the build fails if it leads nowhere."""
    xref = pending_xref("", literal.deepcopy(), refexplicit=True, refwarn=True, **target)
    literal.replace_self(xref)


def link_literals(app: Sphinx, doctree: nodes.document) -> None:
    """Find what can be linked: ``docs/typed.md``, ``natsery.serve(nc, config)``, ``ServiceClient.call``."""
    if app.env.docname == "changelog":
        return  # it names what is gone, too
    for literal in list(doctree.findall(nodes.literal)):
        if isinstance(literal.parent, (nodes.reference, nodes.title, pending_xref)):
            continue
        text = literal.astext()
        if page := re.fullmatch(r"docs/([\w-]+)\.md", text):
            link(literal, refdomain="std", reftype="doc", reftarget=f"/{page[1]}", refdoc=app.env.docname)
        elif name := public_name(text):
            link(literal, refdomain="py", reftype="obj", reftarget=name, refdoc=app.env.docname)


def public_name(text: str) -> str | None:
    """Return the public name, or that of a member, that a piece of code is, with or without arguments."""
    code = re.fullmatch(r"(\w+)((?:\.\w+)*)(?:\(.*\))?", text)
    if code is None:
        return None
    name = WITHOUT_MODULE.get(code[1], code[1]) + code[2]
    parents = (name, name.rpartition(".")[0])
    return name if any(parent in PUBLIC for parent in parents) else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Do it when a page has been read."""
    app.connect("doctree-read", link_literals)
    return {"parallel_read_safe": True}
