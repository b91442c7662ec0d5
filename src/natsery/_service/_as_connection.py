"""What `serve` takes as a connection: one of ours, or a nats-py client that is adapted for the length of the service."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING

from .. import abc
from .._connection_base import ConnectionBase
from .._errors import BackendMismatchError
from .._usage import describe_no_connection

if TYPE_CHECKING:
    from nats.aio.client import Client


def as_connection(nc: abc.Connection | Client) -> AbstractAsyncContextManager[abc.Connection]:
    """Return a context manager that yields a connection for ``nc``."""
    if isinstance(nc, ConnectionBase):
        try:
            nc._home.check()
        except RuntimeError as error:
            raise BackendMismatchError(str(error)) from None
    if isinstance(nc, abc.Connection):
        return nullcontext(nc)
    # nats-py is imported only by those who use it; this recognises its client without importing it.
    if any(base.__module__.split(".")[0] == "nats" for base in type(nc).__mro__):
        from .._nats_py._adapt import adapt

        return adapt(nc)
    raise BackendMismatchError(f"serve needs a connection or a nats-py client, not {describe_no_connection(nc)}")
