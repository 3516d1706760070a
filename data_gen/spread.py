"""One run spread over a Ray cluster by Ray Data.

Workers make drafts, and this process reads, filters and writes as it does without Ray. The output and the continuation
of a stopped run are therefore the same.
"""

import asyncio
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import ray
import ray.data

from data_gen.filters import Filters
from data_gen.generators.base import DraftBatch
from data_gen.generators.build import build_generator
from data_gen.generators.config import GeneratorConfig
from data_gen.pipeline import OnDone, WorkItem, keep
from data_gen.store import Store
from videollm.errors import ConfigError

BLOCK = 4096  # items handed to the cluster at a time; bounds the memory of this process


class DraftWorker:
    """A worker with a generator that makes the items of a batch concurrently."""

    def __init__(self, config: GeneratorConfig):
        self.generator = build_generator(config)
        self.loop = asyncio.new_event_loop()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"work": batch["work"], "made": self.loop.run_until_complete(self._make(list(batch["work"])))}

    async def _make(self, works: list[WorkItem]) -> list[DraftBatch]:
        return await asyncio.gather(*(self.generator.make(work.clip, work.item) for work in works))


def run_on_ray(
    work: Iterable[WorkItem],
    config: GeneratorConfig,
    store: Store,
    filters: Filters,
    *,
    address: str,
    on_done: OnDone = lambda work, made: None,
) -> None:
    """Does the work on a cluster and stores the results.

    `address` is that of a running cluster, "auto" for the cluster of this machine, or "local" to start one. Each CPU of
    the cluster is a worker with an equal share of the requests in flight. Raises ConfigError if a judge is configured.
    """
    if config.judge:
        raise ConfigError("--judge cannot be used with --ray; judge the file in a run of its own")
    ray.init(address, ignore_reinit_error=True, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    workers = max(1, int(ray.cluster_resources().get("CPU", 1)))
    flying = max(1, config.concurrency // workers)
    for block in _blocks(iter(work)):
        made = ray.data.from_items(
            [{"work": w} for w in block], override_num_blocks=min(len(block), workers)
        ).map_batches(
            DraftWorker,
            fn_constructor_args=(config,),
            batch_size=flying,
            batch_format="numpy",
            concurrency=min(workers, len(block)),
            num_cpus=1,
        )
        for row in made.iter_rows():
            asyncio.run(keep(row["work"], row["made"], store, filters, config.generator, config.seed))
            on_done(row["work"], row["made"])


def _blocks(work: Iterator[WorkItem]) -> Iterator[list[WorkItem]]:
    while block := list(islice(work, BLOCK)):
        yield block
