"""The shop of docs/migrating.md runs as it stands there, and the programs of other libraries are Python."""

from __future__ import annotations

import re
from pathlib import Path

from natsery.testing import NatsServer

from .processes import running
from .test_examples import ask_json

PAGE = Path(__file__).parent.parent / "docs" / "migrating.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
CATALOGUE, SHOP, NATS_MICRO, NATS_PY, FASTSTREAM, TESTS = BLOCKS


def test_the_shop_answers(nats_server: NatsServer, tmp_path: Path) -> None:
    (tmp_path / "catalogue.py").write_text(CATALOGUE)
    (tmp_path / "shop.py").write_text(SHOP)
    environment = {"NATS_URL": nats_server.url, "PYTHONWARNINGS": "error"}
    with running("-m", "natsery", "run", "shop", cwd=tmp_path, environment=environment) as program:
        program.wait_for("ready")
        replies = ask_json(
            nats_server.url,
            ("shop.price", '{"item": "tea", "count": 3}'),
            ("shop.price", '{"item": "gold"}'),
            ("shop.price", "{}"),
            ("shop.price", '{"item": "tea", "count": "x"}'),
            ("shop.receipt", '[{"item": "tea", "count": 2, "cents": 700}]'),
            ("shop.items", ""),
        )
        program.terminate()
        assert program.wait() == 0, program.output
    assert replies == [
        {"item": "tea", "count": 3, "cents": 1050},
        "404: there is no 'gold' here",
        "400: Invalid Body: $.item: is missing",
        "400: Invalid Body: $.count: must be an int, got 'x'",
        "2 tea: 7.00",
        "tea",  # the first of several
    ]
    assert "closing the catalogue" in program.output


def test_its_tests_pass(tmp_path: Path) -> None:
    for name, text in (("catalogue", CATALOGUE), ("shop", SHOP), ("test_shop", TESTS)):
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "pytest.ini").write_text("[pytest]\ntrio_mode = true\nfilterwarnings = error\n")
    with running("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=tmp_path) as program:
        assert program.wait() == 0, program.output
    assert "2 passed" in program.output


def test_the_other_programs_are_python() -> None:
    for block, library in ((NATS_MICRO, "nats_contrib"), (NATS_PY, "nats.micro"), (FASTSTREAM, "faststream")):
        compile(block, library, "exec")
        assert f"from {library} import" in block
        assert "natsery" not in block
