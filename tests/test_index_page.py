"""What the package index shows: the README, as it is in the metadata of what is installed."""

from __future__ import annotations

import re
from importlib.metadata import metadata
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
LINK = re.compile(r"\]\(([^)]+)\)")


def test_every_link_leads_somewhere_outside_of_a_clone() -> None:
    """Pictures and pages of the repository were looked for on the index."""
    installed = metadata("natsery")
    text = installed.get_payload()
    assert isinstance(text, str)
    assert installed["Description-Content-Type"] == "text/markdown"
    links = LINK.findall(text)
    assert len(links) == len(LINK.findall(README.read_text(encoding="utf-8")))
    assert [link for link in links if not link.startswith("https://")] == []
    assert "https://raw.githubusercontent.com/natsery/natsery/main/docs/pictures/life-of-a-service.svg" in links
    assert "https://github.com/natsery/natsery/blob/main/CONTRIBUTING.md#check" in links
