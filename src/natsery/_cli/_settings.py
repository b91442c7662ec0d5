"""Where and how a command connects: the options that all of them share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, fields
from typing import Any, TypeVar, final

import click

from .._adr32 import DEFAULT_PREFIX
from .._native._connect import connect
from .._native._connection import NativeConnection

DEFAULT_SERVER = "nats://127.0.0.1:4222"

Command = TypeVar("Command", bound=Callable[..., Any])


@final
@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to connect, and which control prefix the services have."""

    servers: tuple[str, ...] = (DEFAULT_SERVER,)
    prefix: str = DEFAULT_PREFIX

    def connect(self, name: str, **options: Any) -> AbstractAsyncContextManager[NativeConnection]:
        """A connection for the length of a block; ``options`` are further ones of `natsery.connect`."""
        return connect(self.servers, name=name, **options)


def connection_options(command: Command) -> Command:
    """Give a command the options of a connection; it gets them as one argument, ``settings``."""

    @functools.wraps(command)
    def with_settings(**arguments: Any) -> Any:
        given = {each.name: arguments.pop(each.name) for each in fields(Settings)}
        return command(settings=Settings(**given), **arguments)

    options = [
        click.option(
            "-s",
            "--server",
            "servers",
            multiple=True,
            envvar="NATS_URL",
            default=(DEFAULT_SERVER,),
            metavar="URL",
            show_default=True,
            help="A server's URL; may be given several times.",
        ),
        click.option("--prefix", default=DEFAULT_PREFIX, show_default=True, help="The services' control prefix."),
    ]
    result: Any = with_settings
    for option in reversed(options):
        result = option(result)
    return result  # type: ignore[no-any-return]  # click's decorators return what they are given
