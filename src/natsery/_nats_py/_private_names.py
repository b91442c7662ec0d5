"""The private names of nats-py that natsery uses, and a check that the installed version has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from .._errors import BackendMismatchError

if TYPE_CHECKING:
    from nats.aio.client import Client

PRIVATE_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "Client": (
        "_attempt_reconnect",
        "_closed_cb",
        "_disconnected_cb",
        "_error_cb",
        "_flush_pending",
        "_flush_queue",
        "_flusher_task",
        "_max_payload",
        "_max_pending_size",
        "_pending",
        "_pending_data_size",
        "_process_msg",
        "_reading_task",
        "_reconnection_task",
        "_reconnected_cb",
        "_remove_sub",
        "_send_ping",
        "_send_unsubscribe",
        "_server_info",
        "_status",
        "_subs",
        "_transport",
    ),
    "Subscription": ("_drain", "_future", "_id"),
    "TcpTransport": ("_io_writer",),
}
"""By the class whose objects have them."""

SUPPORTED_VERSIONS: Final = "2.16"
"""Versions of nats-py that all this was tested with."""


def check_private_names(client: Client) -> None:
    """Check that this version of nats-py has every private name that natsery uses.

    Raises:
        BackendMismatchError: it lacks some.
    """
    from nats.aio.subscription import Subscription
    from nats.aio.transport import TcpTransport

    owners = {"Client": client, "Subscription": Subscription(client), "TcpTransport": TcpTransport()}  # type: ignore[no-untyped-call]
    missing = [
        f"{owner}.{name}"
        for owner, names in PRIVATE_NAMES.items()
        for name in names
        if not hasattr(owners[owner], name)
    ]
    if missing:
        from importlib.metadata import version

        raise BackendMismatchError(
            f"natsery supports nats-py {SUPPORTED_VERSIONS}; the installed version, {version('nats-py')}, "
            f"has no {', '.join(missing)}; write 'pip install \"nats-py=={SUPPORTED_VERSIONS}.*\"'"
        )
