"""Loads the service configurations that a command line names, from a module or a file."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, final

import natsery

from .._exit_codes import CommandError, Exit

DEFAULT_ATTRIBUTE = "config"
"""The attribute of a module with its configuration if the command line names none."""

NATSERY_FOLDER = str(Path(__file__).parents[2])
"""The folder of natsery's code, whose frames are left out of the tracebacks of users' errors."""


@final
class Target:
    """What a command line names: configurations, or what makes them once there is a connection.

    Args:
        name: as the command line has it.
        module: the module that it is in.
        value: a configuration, several, or something that makes or yields them.
    """

    def __init__(self, name: str, module: ModuleType, value: Any) -> None:
        self.name = name
        self._module = module
        self._takes_connection = _takes_connection(value)
        if inspect.isroutine(value) and not self._takes_connection and not _can_be_called(value):
            raise _error(f"{name} must take no argument, or the connection alone; it takes {inspect.signature(value)}")
        if not self._takes_connection and not _is_async(value) and _can_be_called(value):
            value = _call(name, value)
        self._value = value
        self._is_function = _is_function(value)
        if not (self._is_function or _has_to_be_opened(value)):
            self._check(value)

    @property
    def client_name(self) -> str:
        """The name of the connection, for the server's operators: those of the services if they are known already."""
        return ", ".join(dict.fromkeys(config.name for config in self.known_configs)) or self.name

    @property
    def known_configs(self) -> tuple[natsery.ServiceConfig, ...]:
        """The configurations, if there are some before there is a connection."""
        return () if self._is_function or _has_to_be_opened(self._value) else self._check(self._value)

    @asynccontextmanager
    async def open(self, nc: natsery.abc.Connection) -> AsyncIterator[tuple[natsery.ServiceConfig, ...]]:
        """Yield the configurations for the length of a block.

        Raises:
            CommandError: what it names makes something else, or raised.
        """
        value = self._value
        if self._is_function:
            value = _call(self.name, value, *((nc,) if self._takes_connection else ()))
        if inspect.isawaitable(value):
            try:
                value = await value
            except Exception as error:
                raise user_error(self.name, error, Exit.USAGE) from error
        if isinstance(value, AbstractAsyncContextManager):
            async with value as yielded:
                yield self._check(yielded, "yields something")
        else:
            yield self._check(value, "gives something" if self._is_function else "is")

    def _check(self, value: Any, verb: str = "is") -> tuple[natsery.ServiceConfig, ...]:
        configs = tuple(value) if isinstance(value, (list, tuple)) else (value,)
        for config in configs:
            if not isinstance(config, natsery.ServiceConfig):
                kind = "a class" if inspect.isclass(config) else f"of type {type(config).__name__}"
                hint = _hint(self.name.rpartition(":")[0], self._module)
                if (
                    inspect.isasyncgen(config)
                    or inspect.isgenerator(config)
                    or isinstance(config, AbstractContextManager)
                ):
                    hint = "; for an async context manager function, write @asynccontextmanager above an 'async def'"
                raise _error(f"{self.name} {verb} {kind}, not a natsery.ServiceConfig{hint}")
        if not configs:
            raise _error(f"{self.name} holds no natsery.ServiceConfig")
        return configs


def load(target: str) -> Target:
    """Load what ``MODULE:CONFIG`` or ``FILE.py:CONFIG`` names, and put the current folder on ``sys.path``.

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
            hint = _hint(where, module)
            if not hint and attribute == DEFAULT_ATTRIBUTE:
                hint = f"; write config = natsery.ServiceConfig(…) there, or name what it has: {where}:NAME"
            raise _error(f"{where} has no attribute {attribute!r}{hint}") from None
    return Target(f"{where}:{attribute}", module, value)


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
        hint = _hint_for_module(where, error.name, folder)
        raise _error(f"there is no module {error.name!r}{hint}") from None
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


def _takes_connection(value: Any) -> bool:
    """Return whether it is a function of the connection: of one argument, or of one that is named ``nc``."""
    if not _can_be_called(value, None):
        return False
    return not _can_be_called(value) or next(iter(inspect.signature(value).parameters)) == "nc"


def _is_function(value: Any) -> bool:
    """Whether it is to be called; what `contextlib` makes can be, as a decorator."""
    is_context_manager = isinstance(value, AbstractAsyncContextManager | AbstractContextManager)
    return callable(value) and not inspect.isclass(value) and not is_context_manager


def _can_be_called(value: Any, *args: Any) -> bool:
    if not _is_function(value):
        return False
    try:
        inspect.signature(value).bind(*args)
    except (TypeError, ValueError):
        return False
    return True


def _is_async(value: Any) -> bool:
    """Return whether calling it is for later: what a coroutine function makes must be awaited."""
    return inspect.iscoroutinefunction(value) or inspect.isasyncgenfunction(inspect.unwrap(value))


def _has_to_be_opened(value: Any) -> bool:
    return inspect.isawaitable(value) or isinstance(value, AbstractAsyncContextManager)


def _call(where: str, function: Any, *args: Any) -> Any:
    try:
        return function(*args)
    except (Exception, SystemExit) as error:
        raise user_error(where, error, Exit.USAGE) from error


def _hint(where: str, module: ModuleType) -> str:
    """Return the end of an error message: the configurations that the module does have."""
    names = [name for name, value in vars(module).items() if isinstance(value, natsery.ServiceConfig)]
    return f"; there is {', '.join(f'{where}:{name}' for name in names)}" if names else ""


def _hint_for_module(where: str, missing: str, folder: str) -> str:
    """Return the end of an error message: where the module was looked for, or what to write if that is clear."""
    parent, _, last = where.rpartition(".")
    if parent and where == missing and last.isidentifier() and hasattr(sys.modules.get(parent), last):
        return f"; write {parent}:{last}"
    path = Path(*where.split("."))
    if path.is_dir():
        return f"; {path} is a folder, whose modules are named {where}.NAME"
    parent = missing.rpartition(".")[0]
    if not parent:
        return f" in {folder}, nor is one installed"
    package = sys.modules[parent]  # imported before what is in it
    if hasattr(package, "__path__"):
        return f" in {', '.join(package.__path__)}"
    return f"; {parent} is a module, and no package ({getattr(package, '__file__', 'built in')})"


def _error(message: str) -> CommandError:
    return CommandError(message, Exit.USAGE)
