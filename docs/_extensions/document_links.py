"""Make links between documents those of a site: to the pages of the documents in the root folder, and by titles."""

from __future__ import annotations

import os
import re
from pathlib import Path

from sphinx.application import Sphinx

PAGES = {
    "CHANGELOG.md": "changelog",
    "CONTRIBUTING.md": "contributing",
    "README.md": "index",
    "SECURITY.md": "security-policy",
}
"""The page of each, which includes it."""

DOCS = Path(__file__).parents[1]
LINK = re.compile(r"\[([^][]*)\]\((?![a-z]+:|#|/)([^)#\s]+)(#[\w-]+)?\)")


def change_links(content: list[str], folder: Path) -> None:
    """Change the links in a text from this folder, where they lead to a file, to what they have to be in a page."""

    def change(link: re.Match[str]) -> str:
        text, path, anchor = link[1], folder / link[2], link[3] or ""
        if not path.exists():
            return link[0]
        if path.is_dir():
            return text  # a folder is nothing that a site can show
        if path.name == Path(text).name:
            text = ""  # the title of the page, not its file, is what a reader of the site looks for
        target = Path(os.path.relpath(path, DOCS)).as_posix()
        page = PAGES.get(target.removeprefix("../"))
        return f"[{text}](/{page}.md{anchor})" if page else f"[{text}](/{target}{anchor})"

    content[0] = LINK.sub(change, content[0])


def read_page(_app: Sphinx, name: str, content: list[str]) -> None:
    """Change a page's own links."""
    change_links(content, (DOCS / name).parent)


def read_included(_app: Sphinx, path: Path, _page: str, content: list[str]) -> None:
    """Change the links of what a page includes."""
    change_links(content, (DOCS / path).parent)


def setup(app: Sphinx) -> dict[str, bool]:
    """Do it when sources are read."""
    app.connect("source-read", read_page)
    app.connect("include-read", read_included)
    return {"parallel_read_safe": True}
