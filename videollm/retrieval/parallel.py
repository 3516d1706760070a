"""Work on many files in threads that share the cores."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

import torch

T = TypeVar("T")


def in_parallel(function: Callable[[str], T], files: Sequence[str], workers: int) -> Iterator[T]:
    """Yields results as they are completed by threads, each of which gives PyTorch an equal share of the cores.

    Each thread both decodes and encodes its videos. While some decode, others encode, and no thread waits for another,
    as separate threads for decoding and encoding would have to.
    """
    cores = torch.get_num_threads()
    share = max(1, cores // workers)
    rest = iter(files)
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(share,)) as pool:
            # Two tasks per worker keep all workers busy, and bound the memory of finished results.
            running: set[Future[T]] = {pool.submit(function, file) for file in islice(rest, 2 * workers)}
            while running:
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                running |= {pool.submit(function, file) for file in islice(rest, len(finished))}
                yield from (future.result() for future in finished)
    finally:
        torch.set_num_threads(cores)
