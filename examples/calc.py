"""The calc service on trio; stop it with Ctrl-C.

python examples/calc.py [URL]

Then, from another terminal: nats request math.add 1+2
"""

from __future__ import annotations

import sys

import trio

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
    async with natsery.connect(url) as nc, natsery.serve(nc, config, stop_on_signals=True) as service:
        print(f"ready: {service.name} {service.version} at {url}", flush=True)
        await service.wait_stopped()
    for each in service.stats().endpoints:
        print(f"{each.subject}: {each.num_requests} requests, {each.num_errors} errors", flush=True)


if __name__ == "__main__":
    trio.run(main, sys.argv[1] if len(sys.argv) > 1 else "nats://127.0.0.1:4222")
