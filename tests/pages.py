"""The Python blocks of the documents."""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]

_BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+) -->\n\n?)?^(?P<indent> *)```python\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One block; ``<!-- not run: why -->`` above it keeps it from being run."""

    page: Path
    line: int
    text: str
    why_not_run: str | None

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"

    @property
    def is_program(self) -> bool:
        """Whether it runs an event loop, and does not only define what others use."""
        return re.search(r"^(?:if __name__ ==|(?:anyio|asyncio|trio)\.run\()", self.text, re.MULTILINE) is not None

    @property
    def can_be_imported(self) -> bool:
        """Whether it may be run to have what it defines, which starts no program."""
        return self.why_not_run is None and (not self.is_program or "__main__" in self.text)

    @property
    def imported(self) -> set[str]:
        """The modules that it takes names from."""
        return {
            node.module for node in ast.walk(ast.parse(self.text)) if isinstance(node, ast.ImportFrom) and node.module
        }

    def compile(self) -> CodeType:
        """Return its code, whose lines are those of the page."""
        return compile("\n" * self.line + self.text, str(self.page), "exec", dont_inherit=True)


def blocks_of(page: Path) -> list[Block]:
    """Return the Python blocks of a page, in their order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, match.start("text")), textwrap.dedent(match["text"]), match["reason"])
        for match in _BLOCK.finditer(text)
    ]


def functions_of(path: Path, start: str) -> dict[str, Any]:
    """What the Python block of a document defines that begins so."""
    blocks = re.findall(r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (block,) = [block for block in blocks if start in block]
    names: dict[str, Any] = {}
    exec(compile(block, str(path), "exec", dont_inherit=True), names)
    return names


@contextmanager
def modules_in(folder: Path, texts: dict[str, str]) -> Iterator[None]:
    """Have these texts be modules that can be imported, and run in their folder; leave no trace of them afterwards."""
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    with chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "dont_write_bytecode", True)
        patch.syspath_prepend(folder)
        for name in texts:
            patch.delitem(sys.modules, name, raising=False)  # of another test, which may have one of that name
        before = set(sys.modules)
        try:
            yield
        finally:
            for name in set(sys.modules) - before:
                del sys.modules[name]
