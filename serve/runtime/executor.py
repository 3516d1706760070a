"""Where the model works: requests take turns in one thread, an item of each, and the engine computes them together."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from videollm.encoders.base import FrameEncoder, FrameFeatures
from videollm.inference.engine import Engine, PromptCache
from videollm.inference.sampling import GenerationConfig, Token
from videollm.models.processor import Prompt

T = TypeVar("T")
END: Any = object()


class ModelExecutor:
    """Threads, and who works in them when. Torch uses every core for one thing: where it computes, there is one.

    Every call and every item of an iterator is a job, done in the order in which they come. Whoever waits for items has
    one job in line at a time, so iterators advance side by side. What begins, a call or an iterator with its prompt,
    gets in line only when the last one that began is through: whoever runs waits for one of them at most.
    """

    def __init__(self, threads: int = 1, most: int = 16):
        """most: iterators that run at a time."""
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="model")
        self._beginning, self._places = asyncio.Semaphore(threads), asyncio.Semaphore(most)
        self.running = self.waiting = 0

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        async with self._beginning:
            return await asyncio.wrap_future(self._pool.submit(function, *arguments))

    async def iterate(
        self, make: Callable[[], Generator[T]], interrupt: Callable[[], None] = lambda: None
    ) -> AsyncGenerator[T]:
        """The items of a generator that runs in the threads, an item ahead. Closing this one, or cancelling who waits
        for it, closes that one before its item after next.

        interrupt: called when nobody wants an item any more, to end the wait for the one that is being made.
        """
        self.waiting += 1
        try:
            await self._places.acquire()
        finally:
            self.waiting -= 1
        items, upcoming = make(), Future[Any]()
        self.running += 1
        try:
            async with self._beginning:
                upcoming = self._pool.submit(next, items, END)
                item = await asyncio.wrap_future(upcoming)
            while item is not END:
                upcoming = self._pool.submit(next, items, END)
                yield item
                item = await asyncio.wrap_future(upcoming)
        finally:
            self.running -= 1
            self._places.release()
            upcoming.cancel()  # it may not have begun
            interrupt()
            await asyncio.wrap_future(self._pool.submit(_close, items, upcoming))

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """For threads of others: wait for a turn and what it gives."""
        return self._pool.submit(function, *arguments).result()

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


async def aside(function: Callable[..., T], *arguments: Any) -> T:
    """What the function gives in a thread of its own, which ends with it. OpenMP starts threads for every thread in
    which torch computes, and while more of them live than there are cores, the model takes 1.6 times as long."""
    pool = ThreadPoolExecutor(1)
    done = pool.submit(function, *arguments)
    pool.shutdown(wait=False)
    return await asyncio.wrap_future(done)


def _close(items: Generator[Any], upcoming: Future[Any]) -> None:
    """Once nobody is inside."""
    if not upcoming.cancelled():
        wait([upcoming])
    items.close()


@dataclass(frozen=True)
class ExecutorEngine:
    """An engine for threads of others: each of its tokens takes a turn."""

    engine: Engine
    turns: ModelExecutor

    def stream(self, prompt: Prompt, cache: PromptCache, generation: GenerationConfig) -> Generator[Token]:
        tokens = self.engine.stream(prompt, cache, generation)
        try:
            while (token := self.turns.call(next, tokens, END)) is not END:
                yield token
        finally:
            self.turns.call(tokens.close)


@dataclass(frozen=True)
class ExecutorEncoder:
    """The same for an encoder: each of its batches takes a turn."""

    encoder: FrameEncoder
    turns: ModelExecutor

    def encode_frames(self, pixels: torch.Tensor) -> FrameFeatures:
        return self.turns.call(self.encoder.encode_frames, pixels)
