"""Write ``llms.txt``, the contents of the site with a sentence of each page, and ``llms-full.txt``, all pages as one text."""

from __future__ import annotations

from pathlib import Path

from docutils import nodes
from sphinx.addnodes import toctree
from sphinx.application import Sphinx
from sphinx.writers.text import TextTranslator


def write_texts(app: Sphinx, error: Exception | None) -> None:
    """Follow the contents of the first page."""
    if error is not None or app.builder.name != "html":
        return
    index = app.env.get_doctree(app.config.root_doc)
    contents = [f"# {app.config.project}\n\n> {first_paragraph(index)}\n"]
    pages = []
    for part in index.findall(toctree):
        contents.append(f"## {part['caption']}\n")
        for _, name in part["entries"]:
            page = app.env.get_and_resolve_doctree(name, app.builder, tags=app.tags)
            contents.append(f"- [{app.env.titles[name].astext()}]({name}.html): {first_paragraph(page)}")
            pages.append(source_or_text(app, name, page))
        contents.append("")
    folder = Path(app.outdir)
    (folder / "llms.txt").write_text("\n".join(contents), encoding="utf-8")
    (folder / "llms-full.txt").write_text("\n\n".join(pages), encoding="utf-8")


def first_paragraph(page: nodes.document) -> str:
    """Return what a page begins with, on one line."""
    return next(" ".join(each.astext().split()) for each in page.findall(nodes.paragraph))


def source_or_text(app: Sphinx, name: str, page: nodes.document) -> str:
    """Return prose as it was written, and the reference, which is made from the docstrings, as it reads."""
    source = app.env.doc2path(name).read_text(encoding="utf-8")
    if "```{include}" not in source and ".. auto" not in source:
        return source
    translator = TextTranslator(page, app.builder)
    page.walkabout(translator)
    return translator.body


def setup(app: Sphinx) -> dict[str, bool]:
    """Do it when all pages have been written."""
    app.connect("build-finished", write_texts)
    return {"parallel_read_safe": True}
