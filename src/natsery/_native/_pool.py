"""The servers that a connection knows, and the order in which it tries them."""

from __future__ import annotations

import random
from typing import final

from .._protocol._addresses import Address, discovered_address


@final
class Pool:
    """Given servers and discovered ones.

    Args:
        given: the servers that stay known whatever the cluster says.
        shuffle: whether to try servers in a random order.
    """

    def __init__(self, given: tuple[Address, ...], *, shuffle: bool) -> None:
        self._given = list(given)
        self._discovered: list[Address] = []
        self._shuffle = shuffle
        if shuffle:
            random.shuffle(self._given)

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Every server that is known."""
        return (*self._given, *self._discovered)

    def learn(self, urls: tuple[str, ...], origin: Address) -> None:
        """Take over what a server says of its cluster; servers that it names no more are forgotten."""
        if not urls:
            return
        given = {address.place for address in self._given}
        found = {address.place: address for url in urls if (address := discovered_address(url, origin)) is not None}
        known = [address for address in self._discovered if address.place in found]
        places = given | {address.place for address in known}
        new = [address for place, address in found.items() if place not in places]
        if self._shuffle:
            random.shuffle(new)
        self._discovered = known + new

    def next_round(self, last: Address | None) -> list[Address]:
        """Every server once, the one that was used last at the end."""
        addresses = list(self.addresses)
        if last is not None:
            places = [address.place for address in addresses]
            if last.place in places:
                split = places.index(last.place) + 1
                addresses = addresses[split:] + addresses[:split]
        return addresses
