"""Indexing on a Ray cluster: its workers decode and encode, this process alone writes the tables."""

from collections.abc import Iterator, Sequence
from typing import Any

import ray
import ray.data

from videollm.retrieval.indexer import IndexedVideo, Indexer, IndexFiles

FILES = 2048  # handed to the cluster at once, which bounds this process's memory


class RayWorker:
    """One CPU of the cluster, with an encoder of its own."""

    def __init__(self, uri: str, device: str | None, known_shas: set[str]):
        self.indexer = Indexer.open(uri, device)
        self.known_shas = known_shas

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"made": [self.indexer.index_file(str(file), self.known_shas) for file in batch["file"]]}


def on_ray(address: str, uri: str, device: str | None = None) -> IndexFiles:
    """`Indexer.index_file` for each file, on a cluster.

    address: of a running cluster, "auto" for the one of this machine, "local" to start one. Its workers must reach the
    files, the index at `uri` and the model by the same names as this process. device: of their encoders, see
    `resolve_device`; None leaves it to each worker's VIDEOLLM_DEVICE.
    """

    def index_files(files: Sequence[str], known_shas: set[str]) -> Iterator[IndexedVideo]:
        ray.init(address, ignore_reinit_error=True, log_to_driver=False)
        ray.data.DataContext.get_current().enable_progress_bars = False
        cpus = max(1, int(ray.cluster_resources().get("CPU", 1)))
        for at in range(0, len(files), FILES):
            part = files[at : at + FILES]
            made = ray.data.from_items([{"file": f} for f in part], override_num_blocks=len(part)).map_batches(
                RayWorker,
                fn_constructor_args=(uri, device, known_shas),
                batch_size=1,
                batch_format="numpy",
                concurrency=min(cpus, len(part)),
                num_cpus=1,
            )
            for row in made.iter_rows():
                yield row["made"]

    return index_files
