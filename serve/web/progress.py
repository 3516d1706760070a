"""How far a piece of work is, told while it goes on."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from time import perf_counter
from typing import Any, Generic, TypeVar

T = TypeVar("T")

SHOWN_EVERY_S = 0.5
LEAST_SHARE = 0.05  # of a step; earlier, what is left cannot be told


class Progress:
    """The step in work and which share of it is done. Workers call it from any thread."""

    def __init__(self) -> None:
        self.step, self.share, self._started_s = "", 0.0, perf_counter()

    def __call__(self, step: str, share: float) -> None:
        """share: of the step, from 0 to 1."""
        if step != self.step:
            self._started_s = perf_counter()
        self.step, self.share = step, min(1.0, max(0.0, share))

    @property
    def left_s(self) -> float | None:
        """How many seconds the rest of the step takes if it goes on as before; None where that cannot be told yet."""
        if self.share < LEAST_SHARE:
            return None
        return (perf_counter() - self._started_s) * (1 - self.share) / self.share


class WatchedWork(Generic[T]):
    """Runs work and yields its progress at intervals. Closing the iterator cancels the work.

    work = WatchedWork(lambda progress: load(..., progress))
    async for progress in work:
        show(progress)
    use(work.result)
    """

    def __init__(self, work: Coroutine[Any, Any, T], progress: Progress):
        self._work, self._progress = work, progress
        self.result: T

    async def __aiter__(self) -> AsyncIterator[Progress]:
        task = asyncio.ensure_future(self._work)
        try:
            while not (await asyncio.wait([task], timeout=SHOWN_EVERY_S))[0]:
                yield self._progress
            self.result = await task
        finally:
            task.cancel()
