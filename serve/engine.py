"""The one thread in which the model works: requests take turns, in the order in which they came."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


class ModelThread:
    """Torch uses every core for one request already; a second at the same time would only slow both down."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="model")

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)

    async def iterate(self, make: Callable[[], Iterator[T]]) -> AsyncGenerator[T]:
        """The items of a generator that runs in the thread. Closing this one, or cancelling who waits for it, stops
        that one before its next item."""
        loop, items, stop = asyncio.get_running_loop(), asyncio.Queue[Any](), threading.Event()
        end = object()

        def work() -> None:
            for item in make():
                if stop.is_set():
                    return
                loop.call_soon_threadsafe(items.put_nowait, item)

        done = loop.run_in_executor(self._pool, work)
        done.add_done_callback(lambda _: items.put_nowait(end))
        try:
            while (item := await items.get()) is not end:
                yield item
            await done
        finally:
            stop.set()
            done.cancel()  # it may not have begun

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
