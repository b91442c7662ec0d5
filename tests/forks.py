"""Functions in forked processes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable


def in_a_fork(function: Callable[[], str]) -> str:
    """What a function returns in a forked process, or raises there."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # there may be threads, which this child does not need
        child = os.fork()
    if child == 0:
        try:
            result = function()
        except BaseException as error:
            result = f"{type(error).__name__}: {error}"
        os.write(writer, result.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as file:
        result = file.read()
    os.waitpid(child, 0)
    return result
