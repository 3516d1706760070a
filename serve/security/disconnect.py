"""Cancellation of work whose client has closed the connection."""

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
    """Returns the result of the work. If the client disconnects first, cancels it and raises
    ClientDisconnectedError."""
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
        # The work cleans up before its slot is given to the next request.
        await asyncio.gather(task, disconnected, return_exceptions=True)


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
