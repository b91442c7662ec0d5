"""The few things that anyio has no way to do, once for each event loop."""
