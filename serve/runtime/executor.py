"""The threads that run the model. With one thread, requests take turns in it, one item of each.

Torch uses all cores for one operation, so that two threads that compute at the same time only slow each other down. All
computation of the model therefore runs in one thread, and the engine batches the requests that take turns in it.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from threading import Event
from typing import Any, TypeVar

import torch

from videollm.encoders.base import FrameEncoder, FrameFeatures
from videollm.inference.engine import Engine, PromptCache
from videollm.inference.sampling import GenerationConfig, Token
from videollm.models.processor import Prompt

T = TypeVar("T")
END: Any = object()  # `next` returns it at the end of a generator


class ModelExecutor:
    """Runs calls and generators in its threads, in the order in which they are submitted.

    Each call and each item of a generator is one job. A generator has at most one job in the queue, so that generators
    advance side by side. A new call, and the first item of a new generator (which reads its prompt), enters the queue
    only after the previous new one has ended. Running generators therefore wait for at most one of them at a time,
    however many requests arrive together.

    Args:
        threads: The number of threads: 1 if the jobs compute, and more if they wait for another server.
        max_running: The largest number of generators that run at a time. Further ones wait.
    """

    def __init__(self, threads: int = 1, max_running: int = 16):
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="model")
        self._starting, self._slots = asyncio.Semaphore(threads), asyncio.Semaphore(max_running)
        self._jobs: set[Future[Any]] = set()  # in the queue or in work
        self.running = self.waiting = 0

    def _submit(self, function: Callable[..., T], *arguments: Any) -> Future[T]:
        job = self._pool.submit(function, *arguments)
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        return job

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Returns what the function returns in one of the threads. A task that is cancelled ends after the function."""
        async with self._starting:
            return await _result(self._submit(function, *arguments))

    async def run_parts(self, parts: Iterator[T]) -> AsyncIterator[T]:
        """Yields the items of an iterator, each of which is a call of its own: others take turns with it, and it ends
        with the item at which the consumer stops."""
        step: Callable[..., Any] = next  # its overloads hide the type of the items
        while (part := await self.run(step, parts, END)) is not END:
            yield part

    async def iterate(
        self, make: Callable[[], Generator[T]], interrupt: Callable[[], None] = lambda: None
    ) -> AsyncGenerator[T]:
        """Yields the items of a generator that runs in the threads, one item ahead of the consumer.

        Closing this generator, or cancelling the task that awaits it, closes the other one before its item after next.

        Args:
            make: Makes the generator as soon as there is a slot for it.
            interrupt: A function that ends a wait inside the generator. It is called when no further item is needed.
        """
        self.waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self.waiting -= 1
        items, upcoming = make(), Future[Any]()
        step: Callable[..., Any] = next
        self.running += 1
        try:
            async with self._starting:
                upcoming = self._submit(step, items, END)
                item = await asyncio.wrap_future(upcoming)
            while item is not END:
                upcoming = self._submit(step, items, END)  # before the yield: computed while this one is sent
                yield item
                item = await asyncio.wrap_future(upcoming)
        finally:
            self.running -= 1
            self._slots.release()
            upcoming.cancel()  # has no effect on a job that has begun
            interrupt()
            await asyncio.wrap_future(self._submit(_close, items, upcoming))

    def run_blocking(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Runs the function in one of the threads and returns its result. The caller must not be one of these
        threads."""
        return self._submit(function, *arguments).result()

    def close(self, seconds: float | None = None) -> bool:
        """Drops the jobs that have not begun, waits for the others, and returns whether they ended within `seconds`."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        return not wait([*self._jobs], seconds).not_done


class StoppedError(Exception):
    """Nobody waits any more for what a thread computes."""


async def _result(job: Future[T], stop: Callable[[], None] = lambda: None) -> T:
    """Returns a job's result.

    If the task that waits for it is cancelled, `stop` is called, and a job that has begun is waited for all the same:
    what it takes is not given to the next request before.
    """
    try:
        return await asyncio.wrap_future(job)
    except asyncio.CancelledError:
        if not job.cancelled():
            stop()
            await asyncio.gather(asyncio.wrap_future(job), return_exceptions=True)
        raise


async def run_in_new_thread(function: Callable[..., T], *arguments: Any, stop: Callable[[], None] = lambda: None) -> T:
    """Runs the function in a new thread, which ends with it, and returns its result.

    A task that is cancelled calls `stop`, which is to bring the function to its end, and ends after it.

    `asyncio.to_thread` would keep the thread. OpenMP starts worker threads for every thread in which torch computes,
    and while more of them live than there are cores, the model takes 1.6 times as long.
    """
    pool = ThreadPoolExecutor(1)
    done = pool.submit(function, *arguments)
    pool.shutdown(wait=False)
    return await _result(done, stop)


def _close(items: Generator[Any], upcoming: Future[Any]) -> None:
    """Closes the generator after its last job has ended, because a running generator cannot be closed."""
    if not upcoming.cancelled():
        wait([upcoming])
    items.close()


@dataclass(frozen=True)
class ExecutorEngine:
    """An engine for other threads than the executor's: each token is one job of the executor.

    Once `stopped` is set, no further token is computed, and StoppedError is raised instead.
    """

    engine: Engine
    executor: ModelExecutor
    stopped: Event = field(default_factory=Event)

    def stream(self, prompt: Prompt, cache: PromptCache, generation: GenerationConfig) -> Generator[Token]:
        _check(self.stopped)
        tokens = self.engine.stream(prompt, cache, generation)
        try:
            while (token := self.executor.run_blocking(next, tokens, END)) is not END:
                yield token
                _check(self.stopped)
        finally:
            self.executor.run_blocking(tokens.close)


@dataclass(frozen=True)
class ExecutorEncoder:
    """A frame encoder for other threads than the executor's: each batch is one job of the executor.

    Once `stopped` is set, no further batch is encoded, and StoppedError is raised instead.
    """

    encoder: FrameEncoder
    executor: ModelExecutor
    stopped: Event = field(default_factory=Event)

    def encode_frames(self, pixels: torch.Tensor) -> FrameFeatures:
        _check(self.stopped)
        return self.executor.run_blocking(self.encoder.encode_frames, pixels)


def _check(stopped: Event) -> None:
    if stopped.is_set():
        raise StoppedError
