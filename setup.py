"""Builds the compiled core, which is left out where there is no C compiler; all else is in pyproject.toml.

The environment variable ``NATSERY_CORE`` means the same as at run time: with ``compiled`` the build fails instead, and with
``python`` nothing is compiled.
"""

import os

from setuptools import Extension, setup

choice = os.environ.get("NATSERY_CORE")
core = Extension("natsery._core._compiled", ["src/natsery/_core/_compiled.pyx"], optional=choice != "compiled")
setup(ext_modules=[] if choice == "python" else [core])
