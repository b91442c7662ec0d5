"""How the site is built from these pages and from the docstrings: ``nox -s docs``.

Sphinx makes the reference from the docstrings, and a name or a link that leads nowhere fails the build, without a network.
Zensical, which follows mkdocs-material, calls its support for such references preliminary (2026).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import natsery

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "natsery"
author = copyright = "The natsery authors"  # noqa: A001  # Sphinx's name
release = version = natsery.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
    "document_links",
    "linked_literals",
    "llms",
    "public_names",
]
exclude_patterns = ["_build", "_extensions"]
nitpicky = True  # a name that leads nowhere fails the build, which has -W

html_theme = "furo"
html_title = f"natsery {release}"
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
pygments_dark_style = "github-dark"

myst_heading_anchors = 4  # as GitHub makes them

default_role = "py:obj"
maximum_signature_line_length = 100  # longer ones have a line for each parameter
python_use_unqualified_type_names = True
autodoc_member_order = "bysource"
autodoc_default_options = {
    "members": True,
    "show-inheritance": True,
    # What these classes bring is documented where they come from.
    "inherited-members": (
        "AsyncResource, BaseException, Mapping, ObjectReceiveStream, Sequence, TypedAttributeProvider, int, object, str"
    ),
}

if os.environ.get("READTHEDOCS"):  # elsewhere the site is built without a network
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "anyio": ("https://anyio.readthedocs.io/en/stable", None),
        "python": ("https://docs.python.org/3", None),
        "trio": ("https://trio.readthedocs.io/en/stable", None),
    }
