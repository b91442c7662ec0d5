"""A service that serves its schemas, with bodies of every kind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Annotated, Literal

import msgspec
import pydantic

import natsery


@dataclass
class Item:
    """What is sold."""

    sku: str
    price: float = 0.5


@dataclass
class Order:
    items: list[Item]
    box: tuple[int, int] | None = None
    before: Order | None = None
    notes: dict[str, str] = field(default_factory=dict)


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]
    friend: Pet | None = None


class Pet(pydantic.RootModel[Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]]):
    pass


class Receipt(msgspec.Struct, tag=True):
    sizes: list[tuple[int, float]]
    item: Item | None = None


async def order(body: Order) -> Receipt:
    return Receipt([])


async def items(request: natsery.Request, body: Item) -> AsyncIterator[Item]:
    yield body


async def pet(body: Pet) -> list[Pet]:
    return [body]


async def echo(request: natsery.Request) -> bytes:
    return request.data


SHOP = natsery.ServiceConfig(
    "shop",
    "1.2.3",
    id="one",
    description="Sells",
    endpoints=[
        natsery.group("shop", [order, items, pet]),
        natsery.EndpointConfig("echo", echo, subject="echo.*.in.>"),
    ],
    schemas=True,
)
