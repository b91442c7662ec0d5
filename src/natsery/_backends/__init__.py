"""The few things that anyio has no way to do, once for each event loop."""

from anyio.lowlevel import current_token


def is_trio() -> bool:
    """Whether the running event loop is trio's."""
    return "trio" in current_token().backend_class.__module__
