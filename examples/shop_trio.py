"""The shop in a trio program, which calls it too; it ends by itself.

python examples/shop_trio.py [URL]
"""

from __future__ import annotations

import sys

import trio
from shop import Order, config, items, price

import natsery


async def main(url: str) -> None:
    async with natsery.connect(url) as nc, natsery.serve(nc, config) as service:
        client = natsery.ServiceClient(nc)
        with trio.fail_after(10):
            quotes = [await client.call(price, Order(name, 2), service=config) for name in ("tea", "cocoa")]
            print(await client.call("shop", "receipt", quotes, returns=str))
            async with client.stream(items, service=config) as parts:
                async for item in parts:
                    print(f"there is {item.name}")
            try:
                await client.call(price, Order("gold"), service=config)
            except natsery.ServiceError as error:
                print(error)
    print(f"served {sum(each.num_requests for each in service.stats().endpoints)} requests")


if __name__ == "__main__":
    trio.run(main, sys.argv[1] if len(sys.argv) > 1 else "nats://127.0.0.1:4222")
