"""What the package index shows: the README, with links that setup.py has changed."""

from __future__ import annotations

import ast
import re
from importlib.metadata import metadata
from pathlib import Path

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\]\(([^)]+)\)")


def for_index(readme: str) -> str:
    """What setup.py makes of it; to import that would be to build."""
    source = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    (function,) = (each for each in source.body if isinstance(each, ast.FunctionDef))
    names: dict[str, object] = {"re": re}
    exec(compile(ast.Module([function], []), "setup.py", "exec"), names)
    return names[function.name](readme)  # type: ignore[operator]


def test_every_link_leads_somewhere_outside_of_a_clone() -> None:
    """Pictures and pages of the repository were looked for on the index."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    links = LINK.findall(for_index(readme))
    assert len(links) == len(LINK.findall(readme))
    assert [link for link in links if not link.startswith("https://")] == []
    assert "https://raw.githubusercontent.com/natsery/natsery/main/docs/pictures/life-of-a-service.svg" in links
    assert "https://github.com/natsery/natsery/blob/main/CONTRIBUTING.md#check" in links
    assert for_index("[a](#b) [c](mailto:d@e) ![f](https://g)") == "[a](#b) [c](mailto:d@e) ![f](https://g)"


def test_it_is_the_description_of_what_is_installed() -> None:
    installed = metadata("natsery")
    assert installed["Description-Content-Type"] == "text/markdown"
    text = installed.get_payload() or installed["Description"]  # where its backport is installed, which moves it
    assert "https://github.com/natsery/natsery/blob/main/docs/start.md" in str(text)
