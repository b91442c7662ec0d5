"""The pictures of the documents are what their scripts draw and take today."""

from __future__ import annotations

import html
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import anyio
import pytest

PICTURES = Path(__file__).parent.parent / "docs" / "pictures"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, PICTURES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def words(svg: str) -> list[str]:
    """What is to be read, with one sign in the place of each figure, bar and instance."""
    text = html.unescape(" ".join(re.findall(r"<text[^>]*>(.*?)</text>", svg, re.DOTALL))).replace("\xa0", " ")
    text = re.sub(r"\b[0-9A-Za-z]{22}\b", "#", text)
    return re.sub(r"[▁-█]+|[—–]|\d[\d.,:m-]*( [nµm]?s|[%s])?", "#", text).split()


def test_the_diagrams_are_up_to_date() -> None:
    """If not, run: python docs/pictures/diagrams.py."""
    for name, draw in script("diagrams").DIAGRAMS.items():
        assert draw().svg() == (PICTURES / name).read_text(encoding="utf-8")


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals here")
def test_the_screens_are_up_to_date() -> None:
    """If not, run: python docs/pictures/screens.py."""
    taken = anyio.run(script("screens").take_pictures, backend="trio")
    for name, svg in taken.items():
        assert words(svg) == words((PICTURES / name).read_text(encoding="utf-8")), name


def test_each_picture_has_a_script() -> None:
    made = {*script("diagrams").DIAGRAMS}
    if sys.platform != "win32":
        made |= {*script("screens").SCREENS}
        assert made == {path.name for path in PICTURES.glob("*.svg")}
