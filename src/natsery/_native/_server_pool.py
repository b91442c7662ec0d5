"""The servers that a connection knows, and the order in which they are tried."""

from __future__ import annotations

import random
from typing import final

from .._protocol._addresses import Address, discovered_address


@final
class ServerPool:
    """The servers that the user has given and those that the cluster has announced.

    Args:
        given: the user's servers, which are never removed.
        shuffle: whether to try servers in random order.
    """

    def __init__(self, given: tuple[Address, ...], *, shuffle: bool) -> None:
        self._given = list(given)
        self._discovered: list[Address] = []
        self._shuffle = shuffle
        if shuffle:
            random.shuffle(self._given)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """All known servers."""
        return (*self._given, *self._discovered)

    def learn(self, urls: tuple[str, ...], origin: Address) -> None:
        """Replace the announced servers.

        Args:
            urls: the ``connect_urls`` of an INFO; nothing changes if there are none.
            origin: the server that sent it.
        """
        if not urls:
            return
        given = {address.host_port for address in self._given}
        found = {address.host_port: address for url in urls if (address := discovered_address(url, origin)) is not None}
        known = [address for address in self._discovered if address.host_port in found]
        old = given | {address.host_port for address in known}
        new = [address for host_port, address in found.items() if host_port not in old]
        if self._shuffle:
            random.shuffle(new)
        self._discovered = known + new

    def next_round(self, last: Address | None) -> list[Address]:
        """Return every server once, in the order in which to try them: ``last``, if it is known, at the end."""
        addresses = list(self.addresses)
        if last is not None:
            host_ports = [address.host_port for address in addresses]
            if last.host_port in host_ports:
                split = host_ports.index(last.host_port) + 1
                addresses = addresses[split:] + addresses[:split]
        return addresses
