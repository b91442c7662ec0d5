"""The few things that anyio does not offer, implemented for each event loop."""

from anyio.lowlevel import current_token


def is_trio() -> bool:
    """Return whether trio is the running event loop."""
    return "trio" in current_token().backend_class.__module__
