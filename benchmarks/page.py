"""The parts of docs/benchmarks.md that the benchmarks write themselves."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"

INSTRUCTIONS = "what nox -s instructions -- --update writes"


def times(part: str) -> str:
    """The name of the part that has the tables of one part of the measurements."""
    return f"{part}, which nox -s bench -- --page writes"


def write_part(part: str, text: str, page: Path = PAGE) -> None:
    """Replace a part of the page, which stands between two comments that name it."""
    begin, end = f"<!-- begin: {part} -->", f"<!-- end: {part} -->"
    content = page.read_text(encoding="utf-8")
    if begin not in content or end not in content:
        raise SystemExit(f"{page} lacks the line {begin!r} or {end!r}")
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    page.write_text(pattern.sub(lambda _: f"{begin}\n\n{text.strip()}\n\n{end}", content), encoding="utf-8")
