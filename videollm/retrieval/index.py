"""An index of videos: tables of segments with their embeddings, and the vectors that search compares."""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch

from videollm.assets import cache_dir
from videollm.checkpoint import config_of
from videollm.config import ModelConfig
from videollm.encoders.base import FrameEncoder
from videollm.encoders.build import build_encoder
from videollm.errors import ConfigError, SearchIndexError
from videollm.retrieval.indexer import COMMIT_VIDEOS, Indexer, IndexReport, Progress, load_encoder
from videollm.retrieval.table import SegmentTable
from videollm.retrieval.vectors import Vectors

EXACT_ROWS = 2_000_000  # beyond this many segments, search goes through an approximate graph


class Index:
    """The videos below some folders, by segment.

    `create` makes or opens one, `open` opens it. uri: a folder, an object store (s3://...) or a LanceDB server
    (db://...). Only these two functions and `update` raise SearchIndexError.
    """

    def __init__(
        self,
        table: SegmentTable,
        config: ModelConfig,
        encoder: FrameEncoder | None = None,
        device: str | torch.device | None = None,
    ):
        self.table, self.device = table, device
        self.config = config
        self._given = encoder
        self._vectors: tuple[int, Vectors] | None = None

    @classmethod
    def create(
        cls,
        uri: str | os.PathLike[str],
        model: str = "lite",
        *,
        exact_rows: int = EXACT_ROWS,
        device: str | torch.device | None = None,
    ) -> "Index":
        """The index at `uri`, made if there is none. model: whose encoder, sampling and segments it uses.

        exact_rows: up to how many segments a new index stays exact. device: of the encoder, see `resolve_device`.
        Raises SearchIndexError where the index was made with another model.
        """
        config = config_of(model)
        encoder = build_encoder(config.encoder, device)
        made_with = {"model": model, "revision": encoder.revision, **_recipe(config)}
        table = SegmentTable.create(_absolute(uri), {**made_with, "exact_rows": exact_rows}, encoder.embed_dim)
        recorded = {**table.made_with, **_recipe(_recorded(table, config))}
        for name, value in made_with.items():
            if (there := recorded[name]) != value:
                raise SearchIndexError(
                    f"{uri}: the index was made with {name} {there}, not {value}; use the same, or make another index"
                )
        return cls(table, config, encoder, device)

    @classmethod
    def open(
        cls,
        uri: str | os.PathLike[str],
        encoder: FrameEncoder | None = None,
        device: str | torch.device | None = None,
    ) -> "Index":
        """Open an existing index.

        encoder: one that is loaded already; without it the index's own is loaded to `device` when it is first needed.
        """
        table = SegmentTable.open(_absolute(uri))
        return cls(table, config_of(table.made_with["model"]), encoder, device)

    @cached_property
    def encoder(self) -> FrameEncoder:
        """Raises SearchIndexError where it is not what the index was made with."""
        return load_encoder(self.table, self.config, self.device, self._given)

    @property
    def vectors(self) -> Vectors | None:
        """The embeddings of the table's latest version; None where it is empty."""
        self.table.refresh()
        version, count = self.table.version, self.table.count()
        if not count:
            return None
        if self._vectors is None or self._vectors[0] != version:
            self._vectors = version, self._stored_vectors(version, count)
        return self._vectors[1]

    def _stored_vectors(self, version: int, count: int) -> Vectors:
        folder = self._local / f"vectors-{version}"
        if folder.is_dir():
            return Vectors(folder)
        graph = count > self.table.made_with["exact_rows"]
        made = Vectors.write(folder, self.table.embeddings(), count, self.table.width, graph=graph)
        for old in self._local.glob("vectors-*"):
            if int(old.name.rpartition("-")[2]) < version:
                shutil.rmtree(old, ignore_errors=True)
        return made

    @property
    def _local(self) -> Path:
        """The folder of the lock and of files derived from the tables: the index's own, or one in the cache."""
        if "://" in self.table.uri:
            name = hashlib.sha256(self.table.uri.encode()).hexdigest()[:16]
            folder = cache_dir() / "indexes" / name
        else:
            folder = Path(self.table.uri) / "local"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def update(
        self,
        sources: Sequence[str | os.PathLike[str]],
        *,
        workers: int | None = None,
        ray: str | None = None,
        progress: Progress | None = None,
        commit_videos: int = COMMIT_VIDEOS,
    ) -> IndexReport:
        """Bring the index in step with `sources`: folders, video files, and text files that list either, one a line.

        New and changed files are encoded; files that are gone from the sources and from the disk are removed. workers:
        threads that decode and encode one video each (default: one for each core, at most 8). ray: address of a cluster
        that does it instead, see `ray_cluster`. Raises VideoNotFoundError for a source that does not exist,
        SearchIndexError while another process updates, ConfigError for workers that are below 1 or given with ray.
        """
        if workers is not None and workers < 1:
            raise ConfigError(f"workers is {workers}; it must be at least 1")
        if workers is not None and ray is not None:
            raise ConfigError(f"workers is {workers}, but a Ray cluster uses all that it has; leave one of them out")
        indexer = Indexer(self.table, self.config, self.encoder)
        index_files = indexer.in_threads(workers)
        if ray is not None:
            from videollm.retrieval.ray_cluster import on_ray

            index_files = on_ray(ray, self.table.uri, None if self.device is None else str(self.device))
        report = indexer.update(sources, self._local, index_files, progress=progress, commit_videos=commit_videos)
        _ = self.vectors  # made now rather than by the first search
        return report


RECIPE = ("sampling", "segments", "encoder")  # the parts of a configuration that decide which rows a video gives


def _recipe(config: ModelConfig) -> dict[str, object]:
    values = json.loads(json.dumps(config.to_dict()))  # as the table gives them back
    return {name: values[name] for name in RECIPE}


def _recorded(table: SegmentTable, config: ModelConfig) -> ModelConfig:
    """`config` with the parts that the index was made with. An index made before a field existed has its default."""
    return ModelConfig.from_dict({**config.to_dict(), **{name: table.made_with[name] for name in RECIPE}})


def _absolute(uri: str | os.PathLike[str]) -> str:
    return str(uri) if "://" in str(uri) else os.path.abspath(os.path.expanduser(uri))
