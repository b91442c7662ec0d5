"""The callback slots of a nats-py client, which hold one callback each: natsery listens in front of what is there."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, final

from nats.aio.client import Client

logger = logging.getLogger("natsery")


def listen(client: Client, slot: str, listener: Callable[..., None]) -> Callable[[], None]:
    """Have a listener called before the callback in a slot; what is returned ends that, and puts the slot back as it was."""
    hook = getattr(client, slot)
    if not isinstance(hook, _Hook):
        hook = _Hook(hook)
        setattr(client, slot, hook)
    hook.listeners.append(listener)

    def stop() -> None:
        hook.listeners.remove(listener)
        if not hook.listeners and getattr(client, slot) is hook:
            setattr(client, slot, hook.previous)

    return stop


@final
class _Hook:
    """Stands in one of nats-py's callback slots, in front of the callback that was there."""

    def __init__(self, previous: Callable[..., Awaitable[None]] | None) -> None:
        self.previous = previous
        self.listeners: list[Callable[..., None]] = []

    async def __call__(self, *args: Any) -> None:  # the slots take no or one argument
        try:
            for listener in list(self.listeners):
                listener(*args)
            if self.previous is not None:
                await self.previous(*args)
        except Exception:  # raised from here, it would end nats-py's reader or its reconnecting
            logger.exception("a callback of the nats-py client raised")
