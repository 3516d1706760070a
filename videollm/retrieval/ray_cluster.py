"""Indexing on a Ray cluster. Workers decode and encode, and only this process writes the tables."""

from collections.abc import Iterator, Sequence
from typing import Any

import ray
import ray.data

from videollm.retrieval.indexer import IndexedVideo, Indexer, IndexFiles

FILES_PER_BATCH = 2048  # files that are given to the cluster at once, which bounds the memory of this process


class RayWorker:
    """A worker on one CPU of the cluster, with its own encoder."""

    def __init__(self, uri: str, device: str | None, senses: Sequence[str], known_shas: set[str]):
        self.indexer = Indexer.open(uri, device, senses)
        self.known_shas = known_shas

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"made": [self.indexer.index_file(str(file), self.known_shas) for file in batch["file"]]}


def on_ray(address: str, uri: str, device: str | None = None, senses: Sequence[str] = ()) -> IndexFiles:
    """Returns a function that runs `Indexer.index_file` for each file on a cluster.

    Args:
        address: The address of a running cluster, "auto" for the cluster of this machine, or "local" to start one.
        uri: Where the index is.
        device: The device of the workers' encoders (see `resolve_device`). None takes each worker's VIDEOLLM_DEVICE.
        senses: The senses that look at each file.

    The files, the index and the model must have the same paths on the workers as in this process.
    """

    def index_files(files: Sequence[str], known_shas: set[str]) -> Iterator[IndexedVideo]:
        ray.init(address, ignore_reinit_error=True, log_to_driver=False)
        ray.data.DataContext.get_current().enable_progress_bars = False
        cpus = max(1, int(ray.cluster_resources().get("CPU", 1)))
        for at in range(0, len(files), FILES_PER_BATCH):
            part = files[at : at + FILES_PER_BATCH]
            made = ray.data.from_items([{"file": f} for f in part], override_num_blocks=len(part)).map_batches(
                RayWorker,
                fn_constructor_args=(uri, device, senses, known_shas),
                batch_size=1,
                batch_format="numpy",
                concurrency=min(cpus, len(part)),
                num_cpus=1,
            )
            for row in made.iter_rows():
                yield row["made"]

    return index_files
