"""Which core runs: the compiled one where there is one, or the one that is asked for."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

import natsery

from ..processes import running

COMPILED = find_spec("natsery._core._compiled")

needs_compiled = pytest.mark.skipif(COMPILED is None, reason="this installation has no compiled core")

COMMAND = "import sys, natsery_command; sys.exit(natsery_command.main())"
WITHOUT_COMPILED = f"import sys; sys.modules['natsery._core._compiled'] = None; {COMMAND}"


def version_of(core):
    return f"natsery, version {natsery.__version__} ({core} core)\n"


@pytest.mark.parametrize("core", ["python", pytest.param("compiled", marks=needs_compiled)])
def test_the_version_says_which_core_runs(core):
    with running("-c", COMMAND, "--version", environment={"NATSERY_CORE": core}) as program:
        assert program.wait() == 0, program.output
    assert program.output == version_of(core)


@pytest.mark.parametrize(
    ("program", "core"), [pytest.param(COMMAND, "compiled", marks=needs_compiled), (WITHOUT_COMPILED, "python")]
)
def test_the_compiled_core_runs_where_there_is_one(program, core):
    with running("-c", program, "--version", environment={"NATSERY_CORE": ""}) as started:
        assert started.wait() == 0, started.output
    assert started.output == version_of(core)


WRONG = "NATSERY_CORE: must be 'python' or 'compiled', or not set; got 'cython\\n'"


def test_a_wrong_choice_is_one_line_of_the_command():
    with running("-c", COMMAND, "ls", environment={"NATSERY_CORE": "cython\n"}) as program:
        assert program.wait() == 1, program.output
    assert program.output == f"natsery: {WRONG}\n"


def test_a_wrong_choice_is_one_line_of_the_module():
    with running("-m", "natsery", "ls", environment={"NATSERY_CORE": "cython\n"}) as program:
        assert program.wait() == 1, program.output
    (line,) = program.output.splitlines()
    assert line.endswith(f"(ImportError: {WRONG})")


def test_a_missing_core_that_is_asked_for_is_one_line_of_the_command():
    with running("-c", WITHOUT_COMPILED, "ls", environment={"NATSERY_CORE": "compiled"}) as program:
        assert program.wait() == 1, program.output
    (line,) = program.output.splitlines()
    assert line.startswith("natsery: NATSERY_CORE is 'compiled', and this installation has no compiled core: ")


COMPILED_FROM_OTHER_SOURCES = """
import sys

class Finder:
    def find_spec(self, name, path, target=None):
        if name == "natsery._core._compiled":
            raise ModuleNotFoundError("No module named 'natsery._gone'", name="natsery._gone")

sys.meta_path.insert(0, Finder())
import natsery
"""


def test_a_compiled_core_that_imports_what_is_not_there_is_not_passed_over():
    """The plain form would take its place without a word."""
    with running("-c", COMPILED_FROM_OTHER_SOURCES, environment={"NATSERY_CORE": ""}) as program:
        assert program.wait() == 1
    assert program.output.endswith("ModuleNotFoundError: No module named 'natsery._gone'\n")


@needs_compiled
def test_the_compiled_core_in_a_working_tree_is_not_older_than_its_source():
    """An editable installation runs what was compiled last: `pip install -e .` compiles again."""
    assert COMPILED is not None
    assert COMPILED.origin is not None
    compiled = Path(COMPILED.origin)
    source = compiled.with_name("_compiled.pyx")
    if source.exists():
        assert compiled.stat().st_mtime >= source.stat().st_mtime
