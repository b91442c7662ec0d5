"""Ports for servers that are killed and started again on the same port."""

from __future__ import annotations

import random
import socket

from ._server_process import HOST


def reserve_port() -> socket.socket:
    """Return a socket that reserves a free port among the servers of tests on this machine until it is closed.

    A killed server wants its port back. Nothing may hold that port itself meanwhile, as nats-server could not listen there, so
    a UDP socket of the same number stands for it; the operating system releases it with this process, however that ends.

    The port is outside the range that the kernel takes for clients: one of that range can be gone when the server wants it back,
    and a client that tries again and again to reach it in between can get connected to itself.
    """
    while True:
        port = random.randrange(10_000, 32_000)  # noqa: S311  # no secret
        reservation = socket.socket(type=socket.SOCK_DGRAM)
        try:
            reservation.bind((HOST, port))
            with socket.socket() as server:
                server.bind((HOST, port))
        except OSError:
            reservation.close()
            continue
        return reservation


def port_of(reservation: socket.socket) -> int:
    """Return the port that is reserved."""
    return int(reservation.getsockname()[1])
