"""A request that is answered after its handler has returned."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, final

from anyio.lowlevel import checkpoint

from .._errors import ServiceStoppedError

if TYPE_CHECKING:
    from ._request import Request


@final
class DetachedRequest:
    """A request that stays open after its handler has returned; made by `Request.detach`. An async context manager::

        @natsery.endpoint
        async def order(request: natsery.Request) -> None:
            nursery.start_soon(deliver, request.detach())


        async def deliver(detached: natsery.DetachedRequest) -> None:
            async with detached as request:
                await courier.wait_delivered(request.data)
                await request.respond(b"delivered")

    The request ends, and is counted, when the block is left. Until then it is pending: it counts against the endpoint's limits,
    a stop waits for it within the grace, and cuts it off with 503 then. An ``Exception`` that leaves the block is answered,
    counted and logged as one that leaves a handler, and goes no further. Any other exception, such as a cancellation, ends
    the request with 500 and goes on.

    The endpoint's ``timeout`` and ``concurrency`` are for its handler, and do not concern a detached request.
    """

    def __init__(
        self, request: Request, end: Callable[[Request, BaseException | None], Coroutine[Any, Any, bool]]
    ) -> None:
        self._request = request
        self._end = end
        self._is_entered = False

    async def __aenter__(self) -> Request:
        """Return the request.

        Raises:
            ServiceStoppedError: it has been cut off, or has ended.
            RuntimeError: it was entered before.

        **Cancellation:** the request ends with 500. A checkpoint.
        """
        if self._is_entered:
            raise RuntimeError("a detached request is entered once")
        self._is_entered = True
        try:
            await checkpoint()
        except BaseException as error:
            await self._end(self._request, error)  # noqa: ASYNC102  # sends without waiting where it is cancelled
            raise
        if self._request._has_ended:
            raise ServiceStoppedError("the request has ended: it was cut off")
        return self._request

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        return await self._end(self._request, error)  # noqa: ASYNC102  # sends without waiting where it is cancelled
