"""Work that ends when the client that asked for it goes away."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from starlette.types import Receive

from serve.api.errors import APIError

T = TypeVar("T")


class ClientDisconnectedError(APIError):
    """The client closed the connection before its answer was complete. Nobody receives this error."""

    def __init__(self) -> None:
        # 499 is nginx' status for this; HTTP itself has none.
        super().__init__(499, "the client closed the connection", "client_closed_request")


async def cancel_on_disconnect(receive: Receive, work: Awaitable[T]) -> T:
    """Returns the work's result. Cancels it and raises ClientDisconnectedError if the client goes away first."""
    task = asyncio.ensure_future(work)
    disconnected = asyncio.ensure_future(_disconnect(receive))
    try:
        await asyncio.wait({task, disconnected}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnectedError
        return task.result()
    finally:
        for unfinished in (task, disconnected):
            unfinished.cancel()
        # Waits until the work has cleaned up: its slot is not given to the next request before.
        await asyncio.gather(task, disconnected, return_exceptions=True)


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
