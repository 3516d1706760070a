"""The answer that a tab is waiting for, which later events of the tab can end."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import TypeVar

from serve.web.conversation import PageConversation

T = TypeVar("T")
UPDATE_S = 0.05  # shortest time between two updates of an answer that streams in


class Answering:
    """One answer in work. Gradio can cancel an event, but it does not tell when the event has ended.

    Attributes:
        latest: The conversation with what there is of the answer.
    """

    def __init__(self, conversation: PageConversation):
        self.latest = conversation
        self._stopped, self._ended = asyncio.Event(), asyncio.Event()

    @property
    def is_running(self) -> bool:
        return not self._ended.is_set()

    async def run(self, updates: AsyncGenerator[T]) -> AsyncIterator[T]:
        """Yields the updates until `stop`."""
        stopped = asyncio.ensure_future(self._stopped.wait())
        try:
            async with aclosing(updates):
                while True:
                    following = asyncio.ensure_future(anext(updates, None))
                    try:
                        await asyncio.wait({following, stopped}, return_when=asyncio.FIRST_COMPLETED)
                        if stopped.done() or (update := await following) is None:
                            return
                    finally:
                        following.cancel()
                        await asyncio.gather(following, return_exceptions=True)
                    yield update
        finally:
            stopped.cancel()
            self._ended.set()

    async def stop(self) -> PageConversation:
        """Ends the work, and returns what there is of the answer once no update can follow."""
        self._stopped.set()
        await self._ended.wait()
        return self.latest.stopped()
