"""A shop: typed bodies, streamed replies, state that handlers share, a group with defaults, and a handler that blocks.

natsery run examples/shop.py --embedded-server

Then, from another terminal, at the address that this prints:
natsery request --service shop --endpoint price '{"item": "tea", "count": 3}'
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import natsery

logger = logging.getLogger("shop")


@dataclass
class Order:
    item: str
    count: int = 1


@dataclass
class Quote:
    item: str
    count: int
    cents: int


@dataclass
class Item:
    name: str
    cents: int


class Catalogue:
    """Stands for a database: opened before the first request, and closed after the last."""

    def __init__(self) -> None:
        self._cents = {"tea": 350, "coffee": 520, "cocoa": 410}

    async def quote(self, order: Order) -> Quote:
        try:
            return Quote(order.item, order.count, order.count * self._cents[order.item])
        except KeyError:
            raise natsery.ServiceError(404, f"there is no {order.item!r} here") from None

    async def items(self) -> AsyncIterator[Item]:
        for name, cents in self._cents.items():
            yield Item(name, cents)


@asynccontextmanager
async def lifespan(nc: natsery.abc.Connection) -> AsyncIterator[Catalogue]:
    logger.info("opening the catalogue")
    try:
        yield Catalogue()
    finally:
        logger.info("closing the catalogue")


@natsery.endpoint
async def price(request: natsery.Request[Catalogue], body: Order) -> Quote:
    return await request.state.quote(body)


@natsery.endpoint(metadata={"kind": "command"})
async def buy(request: natsery.Request[Catalogue], body: Order) -> Quote:
    quote = await request.state.quote(body)
    await request.connection.publish("shop.sold", request.data)
    return quote


@natsery.endpoint(timeout=60)
async def items(request: natsery.Request[Catalogue]) -> AsyncIterator[Item]:
    async for item in request.state.items():
        yield item


@natsery.endpoint(in_thread=True, concurrency=2)
def receipt(body: list[Quote]) -> str:
    lines = [f"{quote.count} {quote.item}: {quote.cents / 100:.2f}" for quote in body]
    return "\n".join([*lines, f"total: {sum(quote.cents for quote in body) / 100:.2f}"])


async def log_failures(request: natsery.Request, handler: natsery.Handler) -> bytes | None:
    try:
        return await handler(request)
    except natsery.ServiceError as error:
        logger.info("%s: %s", request.endpoint.name, error)
        raise


config = natsery.ServiceConfig(
    "shop",
    "1.0.0",
    lifespan=lifespan,
    endpoints=[
        natsery.group("shop", [price, buy, items, receipt], timeout=5, concurrency=16, middlewares=[log_failures])
    ],
)
