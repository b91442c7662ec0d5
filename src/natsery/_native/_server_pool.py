"""The servers that a connection knows, and the order in which they are tried."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import final

from .._protocol._addresses import Address, Target, discovered_address

_MAX_RANKS = 1_000
"""Failures and losses that are remembered: names and addresses change, and a connection may last for years."""


@final
class ServerPool:
    """The servers that the user has given and those that the cluster has announced.

    Args:
        given: the user's servers, which are never removed.
        shuffle: whether to try servers, and the addresses of each, in random order.
    """

    def __init__(self, given: tuple[Address, ...], *, shuffle: bool) -> None:
        self._given = list(given)
        self._discovered: list[Address] = []
        self._shuffle = shuffle
        self._ranks: dict[tuple[str, int], tuple[bool, int]] = {}
        """By host and port: whether the last attempt has failed, and when that or a loss was, as a running number."""
        self._last_number = 0
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

    def next_round(self) -> list[Address]:
        """Return every server once, in the order in which to try them."""
        return sorted(self.addresses, key=lambda address: self._rank(address.host_port))

    def targets(self, address: Address, ips: Iterable[str]) -> list[Target]:
        """Return the targets at a server's IP addresses, in the order in which to try them."""
        targets = [Target(address, ip) for ip in ips]
        if self._shuffle:
            random.shuffle(targets)
        return sorted(targets, key=lambda target: self._rank(target.ip_port))

    def _rank(self, key: tuple[str, int]) -> tuple[bool, int]:
        # At the end what did not answer last time, in the order of the failures; before that what was lost.
        return self._ranks.get(key, (False, 0))

    def note_failure(self, failed: Address | Target) -> None:
        """Have a server, and one of its IP addresses, tried after all others, because it could not be connected to."""
        self._note(failed, has_failed=True)

    def note_loss(self, lost: Target) -> None:
        """Have a server tried after those that have not failed either, because the connection to it has ended."""
        self._note(lost, has_failed=False)

    def note_success(self, target: Target) -> None:
        """Forget earlier failures of a server that has accepted a connection."""
        for key in (target.address.host_port, target.ip_port):
            self._ranks.pop(key, None)

    def _note(self, place: Address | Target, *, has_failed: bool) -> None:
        self._last_number += 1
        keys = {place.host_port} if isinstance(place, Address) else {place.address.host_port, place.ip_port}
        for key in keys:
            self._ranks.pop(key, None)
            self._ranks[key] = (has_failed, self._last_number)
        while len(self._ranks) > _MAX_RANKS:
            del self._ranks[next(iter(self._ranks))]
