"""The socket between a supervisor and a worker."""

from __future__ import annotations

import json
import socket
from typing import Any

from natsery._cli._run._channel import Channel


def test_a_message_that_does_not_fit_takes_none_with_it() -> None:
    """The next one was joined to what of it had been sent."""
    one, other = socket.socketpair()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8_192)
    received: list[dict[str, Any]] = []
    with Channel(one) as sender, Channel(other) as receiver:
        sender.send(ready="here")
        sender.send(hung="x" * 2_000_000)
        assert receiver.receive_available(received.append)
        sender.send(stopped="drained")
        assert receiver.receive_available(received.append)
    assert received == [{"ready": "here"}, {"stopped": "drained"}]


def test_a_message_that_comes_in_several_pieces_is_whole() -> None:
    one, other = socket.socketpair()
    received: list[dict[str, Any]] = []
    with one, Channel(other) as receiver:
        line = json.dumps({"hung": "x" * 200_000}).encode() + b"\n"
        for start in range(0, len(line), 50_000):
            one.sendall(line[start : start + 50_000])
            assert receiver.receive_available(received.append)
    assert received == [{"hung": "x" * 200_000}]


def test_a_long_message_fits_whatever_the_system_has_for_sockets() -> None:
    """macOS has 8 KiB, less than what a watchdog says."""
    one, other = socket.socketpair()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8_192)
    received: list[dict[str, Any]] = []
    with Channel(one) as sender, Channel(other) as receiver:
        sender.send(hung="é" * 8_000)  # six bytes each, as JSON
        assert receiver.receive_available(received.append)
    assert received == [{"hung": "é" * 8_000}]
