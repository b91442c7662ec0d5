"""nats-py behind the seam: `adapt` in the same asyncio loop, `bridge` across a thread. Only this package imports nats."""
