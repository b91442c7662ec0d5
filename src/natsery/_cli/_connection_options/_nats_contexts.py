"""Reads contexts of the ``nats`` command: files with settings, one of which may be selected."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from .._exit_codes import CommandError, Exit
from ._sources import Source, context_source


def contexts_folder(environment: Mapping[str, str]) -> Path:
    """Return the folder of the ``nats`` command's contexts: ``nats`` in ``$XDG_CONFIG_HOME`` or ``~/.config``."""
    given = environment.get("XDG_CONFIG_HOME")
    return (Path(given) if given else Path("~/.config").expanduser()) / "nats"


def read_context(name: str | None, folder: Path) -> Source | None:
    """Read a context; return ``None`` if none is named and none is selected.

    Args:
        name: its name, or the path of a file that ends in ``.json``; the selected context if left out.
        folder: the folder of the contexts, with a file ``context.txt`` that names the selected one.

    Raises:
        CommandError: it cannot be read, or is not a context; one line that names the file.
        ConfigError: something in it breaks a rule.
    """
    selection = folder / "context.txt"
    selected_by = ""
    if not name:
        name = _read_selection(selection)
        if not name:
            return None
        selected_by = f", which {selection} selects,"
    path = Path(name)
    if not (name.endswith(".json") and path.is_file()):
        if "/" in name or "\\" in name or ".." in name:
            raise CommandError(f"{name!r} is neither a context's name nor a file that ends in .json", Exit.USAGE)
        path = folder / "context" / f"{name}.json"
    return context_source(_read_file(path, f"the context {name!r}{selected_by}"), f"the context {str(path)!r}")


def _read_selection(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except (OSError, ValueError) as error:
        raise CommandError(f"the selected context cannot be read from {path}: {_reason(error)}", Exit.USAGE) from None


def _read_file(path: Path, what: str) -> Mapping[str, object]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        # The text of this error tells line and column, and nothing of the content, which may be secret.
        raise CommandError(f"{what} is broken: {path} is not JSON ({error})", Exit.USAGE) from None
    except FileNotFoundError:
        raise CommandError(f"{what} does not exist: there is no {path}", Exit.USAGE) from None
    except (OSError, ValueError) as error:
        raise CommandError(f"{what} cannot be read from {path}: {_reason(error)}", Exit.USAGE) from None
    if not isinstance(value, dict):
        raise CommandError(f"{what} is broken: {path} holds no JSON object", Exit.USAGE)
    # The ``nats`` command accepts names in either case, which matters for files that were written by hand.
    return {key.lower(): each for key, each in value.items()}


def _reason(error: OSError | ValueError) -> str:
    return (isinstance(error, OSError) and error.strerror) or "it is not a text file"
