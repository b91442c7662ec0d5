"""Builds the compiled core, which is left out where it cannot be compiled, and the text for the package index.

All else is in pyproject.toml. The environment variable ``NATSERY_CORE`` means the same as at run time: with ``compiled`` the
build fails instead, and with ``python`` nothing is compiled.
"""

import os
import re
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError

choice = os.environ.get("NATSERY_CORE", "")
if choice not in ("", "python", "compiled"):
    raise SystemExit(f"NATSERY_CORE: must be 'python' or 'compiled', or not set; got {choice!r}")


class BuildCore(build_ext):
    """Says what a failure means; setuptools itself goes on without an optional extension."""

    def build_extension(self, ext: Extension) -> None:
        """Compile the core."""
        try:
            super().build_extension(ext)
        except (BaseError, CCompilerError):
            plain = "natsery will run on plain Python, which does the same, more slowly"
            wanted = "NATSERY_CORE=compiled asks for it, which takes a C compiler and Python's headers"
            self.warn(f"the core could not be compiled; {plain if ext.optional else wanted}")
            raise


def for_index(readme: str) -> str:
    """Return the README with links that lead somewhere outside of a clone, too."""
    readme = re.sub(
        r"(!\[[^]]*\]\()(?![a-z]+:|#)", r"\1https://raw.githubusercontent.com/natsery/natsery/main/", readme
    )
    return re.sub(r"(\]\()(?![a-z]+:|#)", r"\1https://github.com/natsery/natsery/blob/main/", readme)


core = Extension("natsery._core._compiled", ["src/natsery/_core/_compiled.pyx"], optional=choice != "compiled")
setup(
    ext_modules=[] if choice == "python" else [core],
    cmdclass={"build_ext": BuildCore},
    long_description=for_index(Path("README.md").read_text(encoding="utf-8")),
    long_description_content_type="text/markdown",
)
