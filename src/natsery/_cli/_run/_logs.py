"""``--log-level``, ``--log-config`` and ``--log-format``: where and how ``natsery run`` writes what it has to say."""

from __future__ import annotations

import json
import logging
import logging.config
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, final

import click

import natsery

from .._exit_codes import CommandError, Exit, LoggedError, line_of, status_of
from .._format import printable
from .._output import status_written_by

LEVELS: Final = ("debug", "info", "warning", "error", "critical")

_STATUS = logging.getLogger("natsery.run")
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


@final
@dataclass(frozen=True)
class LogOptions:
    """What the command line says about logs.

    Attributes:
        level: the least level that is shown, ``None`` for INFO.
        config: a file with a configuration of `logging`.
        as_json: whether each line is one JSON object.
    """

    level: str | None = None
    config: str | None = None
    as_json: bool = False

    @property
    def _is_plain(self) -> bool:
        return self.config is None and not self.as_json

    def show(self, label: str) -> None:
        """Show natsery's log on stderr, reconnects included, unless the program that was loaded configures logging itself."""
        if self._is_plain:
            _show_log(label, self.level)

    def arguments(self) -> list[str]:
        """Return them as the arguments of a worker."""
        return [
            *(["--log-level", self.level] if self.level else []),
            *(["--log-config", self.config] if self.config else []),
            *(["--log-format", "json"] if self.as_json else []),
        ]

    @contextmanager
    def applied(self, label: str) -> Iterator[None]:
        """Have what is logged and said written so, for the length of a block.

        Raises:
            CommandError, click.UsageError: the options contradict each other, or the file cannot be used.
        """
        if self._is_plain:
            yield
            return
        if self.config is None:
            handler = logging.StreamHandler(sys.stderr)
            handler.setFormatter(JSONFormatter(label.rstrip(": ")))
            logging.basicConfig(handlers=[handler], level=_number(self.level), force=True)
        elif self.as_json or self.level is not None:
            raise click.UsageError("--log-config says all about logs; leave out --log-level and --log-format.")
        else:
            _configure(self.config)
        # JSON has the worker in a field of its own.
        with status_written_by(lambda text: _STATUS.info("%s", text.removeprefix(label) if self.as_json else text)):
            try:
                yield
            except KeyboardInterrupt:
                _STATUS.error("interrupted")
                raise LoggedError("interrupted", Exit.INTERRUPTED) from None
            except (natsery.NatseryError, OSError) as error:
                _STATUS.error("%s", line_of(error))
                raise LoggedError(line_of(error), status_of(error)) from error
            except click.UsageError:
                raise
            except click.ClickException as error:
                _STATUS.error("%s", error.format_message())
                raise LoggedError(error.format_message(), Exit(error.exit_code)) from error


@final
class JSONFormatter(logging.Formatter):
    """Writes each record as a JSON object on one line, with everything that it carries as ``extra``."""

    def __init__(self, worker: str) -> None:
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        entry: dict[str, Any] = {
            **{key: value for key, value in vars(record).items() if key not in _USUAL and value != ""},
            "time": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **({"worker": self._worker.removeprefix("worker ")} if self._worker else {}),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            entry["stack"] = record.stack_info
        return json.dumps(entry, default=repr)


def _configure(path: str) -> None:
    try:
        if path.endswith((".json", ".toml")):
            text = Path(path).read_text(encoding="utf-8")
            config = json.loads(text) if path.endswith(".json") else tomllib.loads(text)
            # Unless the file says otherwise: natsery's loggers are there already.
            logging.config.dictConfig({"disable_existing_loggers": False, **config})
        else:
            logging.config.fileConfig(path, disable_existing_loggers=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, RuntimeError) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise CommandError(f"--log-config: {path} cannot be used: {reason}", Exit.USAGE) from error


def _number(level: str | None) -> int:
    return logging.getLevelNamesMapping()[(level or "info").upper()]


def _show_log(label: str, level: str | None) -> None:
    logger = logging.getLogger("natsery")
    if level is not None:
        logger.setLevel(_number(level))
    if logger.hasHandlers():
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_PrintableFormatter(f"{label}%(message)s"))
    logger.addHandler(handler)
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)


class _PrintableFormatter(logging.Formatter):
    """Shows control characters: an exception may hold what a requester has sent."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), keep="\n\t")
