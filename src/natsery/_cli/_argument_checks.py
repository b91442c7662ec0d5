"""Checks of what a command line says, whose errors name the option or argument."""

from __future__ import annotations

import math
from typing import Any, Final, final

import click

import natsery


@final
class _Seconds(click.FloatRange):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds: float = super().convert(value, param, ctx)
        if math.isnan(seconds):  # which is in no range, and not out of it either
            self.fail(f"{value!r} is not a number of seconds.", param, ctx)
        return seconds


SECONDS: Final = _Seconds(min=0, min_open=True)
"""The type of an option that is a number of seconds, more than 0 and possibly infinite."""


def check_subject(field: str, subject: str) -> None:
    """Check a subject, which must not have wildcards.

    Raises:
        ConfigError: it names ``field``.
    """
    _check(field, prefix=subject)  # a prefix may be any such subject


def check_name(field: str, name: str) -> None:
    """Check the name of a service.

    Raises:
        ConfigError: it names ``field``.
    """
    _check(field, name=name)


def check_id(field: str, instance_id: str) -> None:
    """Check the id of an instance.

    Raises:
        ConfigError: it names ``field``.
    """
    _check(field, id=instance_id)


def renamed(error: natsery.ConfigError, field: str) -> natsery.ConfigError:
    """Return the same error for a field of another name."""
    return natsery.ConfigError(field, error.value, error.reason)


def _check(field: str, *, name: str = "name", id: str | None = None, prefix: str = "$SRV") -> None:  # noqa: A002  # ADR-32's word
    try:
        natsery.ServiceConfig(name, "1.0.0", id=id, prefix=prefix)
    except natsery.ConfigError as error:
        raise renamed(error, field) from None
