"""Loads the service configurations that a command line names, from a module or a file."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import natsery

from .._exit_codes import CommandError, Exit

DEFAULT_ATTRIBUTE = "config"
"""The attribute of a module with its configuration if the command line names none."""

NATSERY_FOLDER = str(Path(__file__).parents[2])
"""The folder of natsery's code, whose frames are left out of the tracebacks of users' errors."""


def load(target: str) -> tuple[natsery.ServiceConfig, ...]:
    """Load the configurations that ``MODULE:CONFIG`` or ``FILE.py:CONFIG`` names, and put the current folder on ``sys.path``.

    Raises:
        CommandError: there is no such module or attribute, it is not a configuration, or the module raised.
    """
    where, attribute = split(target)
    module = _import(where)
    value: Any = module
    for name in attribute.split("."):
        try:
            value = getattr(value, name)
        except AttributeError:
            raise _error(f"{where} has no attribute {attribute!r}{_hint(where, module)}") from None
    if _is_factory(value):
        value = _call(f"{where}:{attribute}", value)
    configs = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    for config in configs:
        if not isinstance(config, natsery.ServiceConfig):
            kind = "a class" if inspect.isclass(config) else f"of type {type(config).__name__}"
            raise _error(f"{where}:{attribute} is {kind}, not a natsery.ServiceConfig{_hint(where, module)}")
    if not configs:
        raise _error(f"{where}:{attribute} holds no natsery.ServiceConfig")
    return configs


def split(target: str) -> tuple[str, str]:
    """Split a target into a module or file, and an attribute."""
    where, colon, attribute = target.rpartition(":")
    if not colon or "/" in attribute or "\\" in attribute:  # C:\calc.py has a colon too
        where, attribute = target, ""
    return where, attribute or DEFAULT_ATTRIBUTE


def user_error(target: str, error: BaseException, status: Exit) -> CommandError:
    """Return the error for an exception of the user's code: its traceback without frames of natsery and the import system."""
    summary = traceback.TracebackException.from_exception(error)
    for each in _with_causes(summary):
        each.stack[:] = [frame for frame in each.stack if not _is_internal(frame.filename)]
    return CommandError(f"{target} raised:\n{''.join(summary.format()).rstrip()}", status)


def _with_causes(summary: traceback.TracebackException) -> Iterator[traceback.TracebackException]:
    yield summary
    for other in (summary.__cause__, summary.__context__, *(getattr(summary, "exceptions", None) or ())):
        if other is not None:
            yield from _with_causes(other)


def _is_internal(filename: str) -> bool:
    return filename.startswith((NATSERY_FOLDER, "<frozen ", "<string>")) or filename == importlib.__file__


def _import(where: str) -> ModuleType:
    name, folder = _find(where)
    for each in (str(Path.cwd()), folder):
        if each not in sys.path:
            sys.path.insert(0, each)
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise user_error(where, error, Exit.USAGE) from error
        raise _error(f"there is no module {error.name!r}{_hint_for_module(where, error.name)}") from None
    except (Exception, SystemExit) as error:
        raise user_error(where, error, Exit.USAGE) from error
    file = getattr(module, "__file__", None)
    if where.endswith(".py") and (file is None or Path(file).resolve() != Path(where).resolve()):
        raise _error(f"{where} cannot be imported: {name!r} is the name of another module ({file or 'built in'})")
    return module


def _find(where: str) -> tuple[str, str]:
    """Return a module's name, and the folder that has to be on ``sys.path`` to import it."""
    if not where.endswith(".py"):
        if not all(part.isidentifier() for part in where.split(".")):
            hint = f"; write {where}.py" if Path(f"{where}.py").is_file() else ""
            if not hint and Path(where).is_dir():
                hint = "; it is a folder: name a file in it"
            raise _error(
                f"{where!r} is neither a module's name, such as shop.calc, nor a file, such as shop/calc.py{hint}"
            )
        return where, str(Path.cwd())
    path = Path(where).resolve()
    if not path.is_file():
        raise _error(f"there is no file {where!r}")
    parts = [path.stem]
    folder = path.parent
    # A file in a package is imported as a module of that package, so that its relative imports work.
    while (folder / "__init__.py").exists():
        parts.insert(0, folder.name)
        folder = folder.parent
    return ".".join(parts), str(folder)


def _is_factory(value: Any) -> bool:
    """Return whether it can be called without arguments, and is not a class."""
    if not callable(value) or inspect.isclass(value):
        return False
    try:
        inspect.signature(value).bind()
    except (TypeError, ValueError):
        return False
    return True


def _call(where: str, function: Any) -> Any:
    try:
        result = function()
    except (Exception, SystemExit) as error:
        raise user_error(where, error, Exit.USAGE) from error
    if inspect.iscoroutine(result):
        result.close()
        raise _error(f"{where} is async; a function that makes a natsery.ServiceConfig must be a plain one")
    return result


def _hint(where: str, module: ModuleType) -> str:
    """Return the end of an error message: the configurations that the module does have."""
    names = [name for name, value in vars(module).items() if isinstance(value, natsery.ServiceConfig)]
    return f"; there is {', '.join(f'{where}:{name}' for name in names)}" if names else ""


def _hint_for_module(where: str, missing: str) -> str:
    """Return the end of an error message if the last part of a module's name is an attribute, or a file has another name."""
    parent, _, last = where.rpartition(".")
    if parent and where == missing and last.isidentifier() and hasattr(sys.modules.get(parent), last):
        return f"; write {parent}:{last}"
    path = Path(*where.split("."))
    if path.is_dir():
        return f"; {path} is a folder, whose modules are named {where}.NAME"
    return ""


def _error(message: str) -> CommandError:
    return CommandError(message, Exit.USAGE)
