"""The calc service on asyncio, with the nats-py client that the program already has; stop it with Ctrl-C.

python examples/calc_asyncio.py [URL]

Then, from another terminal: nats request math.add 1+2
"""

from __future__ import annotations

import asyncio
import sys

import nats

import natsery


@natsery.endpoint(concurrency=8)
async def add(request: natsery.Request) -> bytes:
    try:
        a, b = map(int, request.data.split(b"+"))
    except ValueError:
        raise natsery.ServiceError(400, "expected 'a+b'") from None
    return str(a + b).encode()


config = natsery.ServiceConfig(name="calc", version="1.0.0", endpoints=[natsery.group("math", [add])])


async def main(url: str) -> None:
    client = await nats.connect(url)
    try:
        async with natsery.serve(client, config, stop_on_signals=True) as service:
            print(f"ready: {service.name} {service.version} at {url}", flush=True)
            await service.wait_stopped()
    finally:
        await client.close()  # noqa: ASYNC102
    for each in service.stats().endpoints:
        print(f"{each.subject}: {each.num_requests} requests, {each.num_errors} errors", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "nats://127.0.0.1:4222"))
