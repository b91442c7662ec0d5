"""The reference of the site has every public name, and the guides tell what each is for."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from pathlib import Path

import natsery
import natsery.abc
import natsery.otel
import natsery.prometheus
import natsery.testing

DOCS = Path(__file__).parent.parent / "docs"
MODULES = [natsery, natsery.abc, natsery.otel, natsery.prometheus, natsery.testing]
PUBLIC = [
    f"{module.__name__}.{name}"
    for module in MODULES
    for name in module.__all__
    if not inspect.ismodule(getattr(module, name))
]

IN_NO_GUIDE = {"natsery.__version__"}
"""What needs no guide."""


def code_of(page: Path) -> str:
    """The code in a page: blocks, and pieces in its text."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^ *```.*?^ *```", text, re.MULTILINE | re.DOTALL)
    return "\n".join([*blocks, *re.findall(r"`[^`\n]+`", text)])


FOR_CONTRIBUTORS = {"architecture", "benchmarks", "changelog", "contributing", "packaging", "proof", "releasing"}
GUIDES = "\n".join(code_of(page) for page in sorted(DOCS.glob("*.md")) if page.stem not in FOR_CONTRIBUTORS)


def is_in_a_guide(name: str) -> bool:
    """Whether a guide has the name as code; a function's, which may be an everyday word, with its module or alone."""
    module, _, last = name.rpartition(".")
    is_of_its_own = last[0].isupper() and module in {"natsery", "natsery.abc"}
    pattern = last if is_of_its_own else rf"{re.escape(name)}|from {module} import [^\n]*{last}|(?<=`){last}(?=`)"
    return re.search(rf"\b(?:{pattern})\b", GUIDES) is not None


def test_every_public_name_is_in_the_reference_once() -> None:
    pages = "\n".join(page.read_text(encoding="utf-8") for page in (DOCS / "reference").glob("*.rst"))
    assert Counter(re.findall(r"^\.\. auto\w+:: (\S+)$", pages, re.MULTILINE)) == Counter(PUBLIC)


def test_every_public_name_is_in_a_guide() -> None:
    missing = {name for name in PUBLIC if not is_in_a_guide(name)}
    assert sorted(missing - IN_NO_GUIDE) == [], "write of them in a page of docs/"
