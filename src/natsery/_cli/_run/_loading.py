"""Finds the services that a command line names: in a module, or in a file."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from ..._config import ServiceConfig
from .._exit_codes import CommandError, Exit

DEFAULT_ATTRIBUTE = "config"
"""Where a module has its configuration, unless the command line says otherwise."""

OWN_FOLDER = str(Path(__file__).parents[2])
"""Where natsery's own code is, whose frames say nothing to those who wrote the module."""


def load(target: str) -> tuple[ServiceConfig, ...]:
    """The configurations that ``MODULE:CONFIG`` or ``FILE.py:CONFIG`` stands for; the current folder is on ``sys.path`` then.

    Raises:
        CommandError: there is no such module or attribute, it is no configuration, or the module raised.
    """
    where, attribute = split(target)
    module = _import(where)
    value: Any = module
    for name in attribute.split("."):
        try:
            value = getattr(value, name)
        except AttributeError:
            raise _error(f"{where} has no attribute {attribute!r}{_hint(where, module)}") from None
    if _can_be_called(value):
        value = _call(f"{where}:{attribute}", value)
    configs = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    for config in configs:
        if not isinstance(config, ServiceConfig):
            kind = "a class" if inspect.isclass(config) else f"of type {type(config).__name__}"
            raise _error(f"{where}:{attribute} is {kind}, not a natsery.ServiceConfig{_hint(where, module)}")
    if not configs:
        raise _error(f"{where}:{attribute} holds no natsery.ServiceConfig")
    return configs


def split(target: str) -> tuple[str, str]:
    """The module or file, and the attribute, that a target names."""
    where, colon, attribute = target.rpartition(":")
    if not colon or "/" in attribute or "\\" in attribute:  # C:\calc.py has a colon too
        where, attribute = target, ""
    return where, attribute or DEFAULT_ATTRIBUTE


def raised(target: str, error: BaseException, status: Exit) -> CommandError:
    """What is said of an error of the user's own: its traceback, without the frames of natsery and the import system."""
    summary = traceback.TracebackException.from_exception(error)
    for each in _with_causes(summary):
        each.stack[:] = [frame for frame in each.stack if not _is_inner(frame.filename)]
    return CommandError(f"{target} raised:\n{''.join(summary.format()).rstrip()}", status)


def _with_causes(summary: traceback.TracebackException) -> Iterator[traceback.TracebackException]:
    yield summary
    for other in (summary.__cause__, summary.__context__, *(getattr(summary, "exceptions", None) or ())):
        if other is not None:
            yield from _with_causes(other)


def _is_inner(filename: str) -> bool:
    return filename.startswith((OWN_FOLDER, "<frozen ", "<string>")) or filename == importlib.__file__


def _import(where: str) -> ModuleType:
    name, folder = _place(where)
    for each in (str(Path.cwd()), folder):
        if each not in sys.path:
            sys.path.insert(0, each)
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise raised(where, error, Exit.USAGE) from error
        raise _error(f"there is no module {error.name!r}") from None
    except (Exception, SystemExit) as error:
        raise raised(where, error, Exit.USAGE) from error
    file = getattr(module, "__file__", None)
    if where.endswith(".py") and (file is None or Path(file).resolve() != Path(where).resolve()):
        raise _error(f"{where} cannot be imported: {name!r} is the name of another module ({file or 'built in'})")
    return module


def _place(where: str) -> tuple[str, str]:
    """The module's name, and the folder that has to be on ``sys.path`` for it."""
    if not where.endswith(".py"):
        if not all(part.isidentifier() for part in where.split(".")):
            raise _error(f"{where!r} is neither a module's name, such as shop.calc, nor a file, such as shop/calc.py")
        return where, str(Path.cwd())
    path = Path(where).resolve()
    if not path.is_file():
        raise _error(f"there is no file {where!r}")
    parts = [path.stem]
    folder = path.parent
    # A file of a package is imported as one, so that its relative imports work.
    while (folder / "__init__.py").exists():
        parts.insert(0, folder.name)
        folder = folder.parent
    return ".".join(parts), str(folder)


def _can_be_called(value: Any) -> bool:
    """Whether it is a function that makes a configuration, and no class or handler."""
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
        raise raised(where, error, Exit.USAGE) from error
    if inspect.iscoroutine(result):
        result.close()
        raise _error(f"{where} is async; a function that makes a natsery.ServiceConfig must be a plain one")
    return result


def _hint(where: str, module: ModuleType) -> str:
    """What the module has instead."""
    names = [name for name, value in vars(module).items() if isinstance(value, ServiceConfig)]
    return f"; there is {', '.join(f'{where}:{name}' for name in names)}" if names else ""


def _error(message: str) -> CommandError:
    return CommandError(message, Exit.USAGE)
