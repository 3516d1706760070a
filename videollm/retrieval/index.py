"""An index of videos: the tables of their segments, and the vectors that search compares."""

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
from filelock import FileLock

from videollm.assets import cache_dir
from videollm.config import ModelConfig
from videollm.encoders.base import FrameEncoder
from videollm.encoders.build import build_encoder
from videollm.encoders.segments import vectors_of
from videollm.errors import ConfigError, SearchIndexError
from videollm.retrieval.indexable import config_to_index
from videollm.retrieval.indexer import COMMIT_VIDEOS, Indexer, IndexReport, Progress, load_encoder
from videollm.retrieval.table import SegmentTable
from videollm.retrieval.vectors import DerivedFileError, Vectors

logger = logging.getLogger(__name__)

# An index with more segments is searched through an approximate graph, because reading every row takes too long.
EXACT_ROWS = 2_000_000


MODELS = "models"  # the folder, in that of an index, of the rows of further models


class Index:
    """An index of the segments of videos, made with one model.

    `create` creates or opens an index, and `open` opens one. The `uri` is a folder, an object store (s3://...) or a
    LanceDB server (db://...). Derived files and the lock are in `local` in this folder, or in the cache folder if the
    index is elsewhere.

    A folder may hold the rows of several models. Those of the first are in the folder itself, and those of each further
    one in a folder of their own below `models`, which is an index too. `open_models` opens all of them.
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
        self._vectors: tuple[str, Vectors] | None = None

    @classmethod
    def create(
        cls,
        uri: str | os.PathLike[str],
        model: str = "lite",
        *,
        exact_rows: int = EXACT_ROWS,
        device: str | torch.device | None = None,
    ) -> "Index":
        """Opens the rows of a model in the index at `uri`, and creates what is missing.

        Args:
            uri: Where the index is.
            model: The model whose encoder, sampling and segmentation the index uses: a preset, a hub id or a checkpoint
                directory, also one of a retrieval head or of an aligner (see `config_to_index`).
            exact_rows: The largest number of segments for which a new index is searched exactly.
            device: The device of the encoder, see `resolve_device`.

        Raises:
            SearchIndexError: If the rows were made with another version or configuration of the model, or if the index
                is not a folder and was made with another model.
            ConfigError: If the model is a retrieval head that cannot be indexed.
        """
        config = config_to_index(model)
        encoder = build_encoder(config.encoder, device)
        made_with = {"model": model, "revision": encoder.revision, **_recipe(config)}
        place = _absolute(uri)
        with FileLock(_local_folder(place) / "create.lock"):  # two creations at once would conflict
            vectors = vectors_of(encoder)
            note = {**made_with, "exact_rows": exact_rows, "vectors": vectors}
            table = SegmentTable.create(place, note, vectors * encoder.embed_dim)
            if table.made_with["model"] != model and "://" not in place:
                table = SegmentTable.create(_beside(place, model), note, vectors * encoder.embed_dim)
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
        """Opens an existing index.

        Args:
            uri: Where the index is.
            encoder: A loaded encoder, whose rows are opened if the index has those of several models. None takes the
                rows of the first model, and loads its encoder when it is first needed.
            device: The device of the encoder that is loaded, see `resolve_device`.

        Raises:
            SearchIndexError: If there is no index, or this version cannot read it.
        """
        place = _absolute(uri)
        table = SegmentTable.open(place)
        if encoder is not None and table.made_with["revision"] != encoder.revision:
            others = map(SegmentTable.open, _further(place))
            table = next((one for one in others if one.made_with["revision"] == encoder.revision), table)
        return cls(table, config_to_index(table.made_with["model"]), encoder, device)

    @classmethod
    def open_models(
        cls, uri: str | os.PathLike[str], model: str | None = None, device: str | torch.device | None = None
    ) -> "list[Index]":
        """Opens the rows of every model that an index has, or of one of them.

        Raises:
            NoIndexError: If there is no index.
            SearchIndexError: If it has no rows of `model`, or this version cannot read it.
        """
        place = _absolute(uri)
        indexes = [cls.open(one, device=device) for one in (place, *_further(place))]
        chosen = [index for index in indexes if model in (None, index.model)]
        if not chosen:
            there = ", ".join(index.model for index in indexes)
            raise SearchIndexError(f"{uri}: the index has no rows of the model {model}; it has those of {there}")
        return chosen

    @property
    def model(self) -> str:
        """The model that the rows were made with, as it was named."""
        return self.table.made_with["model"]

    @cached_property
    def encoder(self) -> FrameEncoder:
        """The frame encoder. Raises SearchIndexError if it is not the encoder that the index was made with."""
        return load_encoder(self.table, self.config, self.device, self._given)

    @property
    def vectors(self) -> Vectors | None:
        """The vectors of the latest version of the table, or None if it is empty."""
        self.table.refresh()
        count = self.table.count()
        if not count:
            return None
        # The version alone would not do: an index that is made again in the same place counts from 1 again.
        state = f"{self.table.id}-{self.table.version}"
        if self._vectors is None or self._vectors[0] != state:
            self._vectors = state, self._stored_vectors(state, count)
        return self._vectors[1]

    def _stored_vectors(self, state: str, count: int) -> Vectors:
        """Returns the vectors of a state of the table, from files that are written if they are missing or damaged."""
        folder = self._local / f"vectors-{state}"
        try:
            return Vectors(folder)
        except DerivedFileError as error:
            if folder.exists():
                logger.warning("%s; it is made again", error)
        count *= self.table.vectors
        graph = count > self.table.made_with["exact_rows"]
        made = Vectors.write(folder, self.table.embeddings(), count, self.table.width, graph=graph)
        for old in self._local.glob("vectors-*"):
            if old != folder and not _is_later(old.name, folder.name):
                shutil.rmtree(old, ignore_errors=True)
        return made

    @property
    def _local(self) -> Path:
        return _local_folder(self.table.uri)

    def update(
        self,
        sources: Sequence[str | os.PathLike[str]],
        *,
        workers: int | None = None,
        ray: str | None = None,
        senses: Sequence[str] | None = None,
        progress: Progress | None = None,
        commit_videos: int = COMMIT_VIDEOS,
        drop_missing: bool = False,
    ) -> IndexReport:
        """Updates the index to the present content of `sources`.

        New and changed files are encoded. Files below the sources that no longer exist are removed. If all videos of a
        folder are gone, it may be a drive that is not mounted: their rows are kept, and the report names the folder. An
        interrupted update keeps what it has committed, and the next update does the rest.

        Args:
            sources: Folders, video files, and text files that list either, one per line.
            workers: The number of threads, each of which decodes and encodes one video at a time. None selects one per
                core, at most 8.
            ray: The address of a Ray cluster that decodes and encodes instead of threads, see `ray_cluster.on_ray`.
            senses: The senses that look at each video, in addition to the encoder. None takes those that looked at the
                videos that are in the index. A video that one of them has not seen is looked at again, not encoded.
            progress: A function that is called after each file.
            commit_videos: The largest number of videos between two commits.
            drop_missing: Remove the rows of folders whose videos are all gone too.

        Raises:
            VideoNotFoundError: If a source does not exist.
            SearchIndexError: If another process is updating the index, or the encoder has changed.
            ConfigError: If `workers` is below 1 or is given together with `ray`.
        """
        if workers is not None and workers < 1:
            raise ConfigError(f"workers is {workers}; it must be at least 1")
        if workers is not None and ray is not None:
            raise ConfigError(f"workers is {workers}, but a Ray cluster uses all that it has; leave one of them out")
        if senses is None:
            senses = self.table.senses()
        indexer = Indexer(self.table, self.config, self.encoder, senses, self.device)
        index_files = indexer.in_threads(workers)
        if ray is not None:
            from videollm.retrieval.ray_cluster import on_ray

            index_files = on_ray(ray, self.table.uri, None if self.device is None else str(self.device), senses)
        report = indexer.update(
            sources,
            self._local,
            index_files,
            progress=progress,
            commit_videos=commit_videos,
            drop_missing=drop_missing,
        )
        _ = self.vectors  # written now, so that the first search does not have to wait for it
        return report


def _local_folder(uri: str) -> Path:
    """Returns the folder of locks and of files derived from the tables, in the index or in the cache folder."""
    if "://" in uri:
        folder = cache_dir() / "indexes" / hashlib.sha256(uri.encode()).hexdigest()[:16]
    else:
        folder = Path(uri) / "local"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _is_later(name: str, other: str) -> bool:
    """Whether a folder of vectors belongs to a later version of the same table, which another process has read."""
    (table, _, version), (other_table, _, other_version) = name.rpartition("-"), other.rpartition("-")
    return table == other_table and int(version) > int(other_version)


RECIPE = ("sampling", "segments", "encoder")  # the parts of a configuration that decide which rows a video gives


def _recipe(config: ModelConfig) -> dict[str, object]:
    # The table stores JSON, which turns tuples into lists: without the round trip, equal recipes would differ.
    values = json.loads(json.dumps(config.to_dict()))
    return {name: values[name] for name in RECIPE}


def _recorded(table: SegmentTable, config: ModelConfig) -> ModelConfig:
    """Returns `config` with the parts that the index was made with.

    A field that did not exist when the index was made has its default.
    """
    return ModelConfig.from_dict({**config.to_dict(), **{name: table.made_with[name] for name in RECIPE}})


def _beside(place: str, model: str) -> str:
    """Returns the folder of the rows of a further model."""
    name = re.sub(r"[^\w.-]+", "_", Path(model).name)[:40]
    return str(Path(place) / MODELS / f"{name}-{hashlib.sha256(model.encode()).hexdigest()[:8]}")


def _further(place: str) -> list[str]:
    """Returns where the rows of further models are."""
    # `videos` is created last, so that an index without it was interrupted and has no rows.
    tables = [] if "://" in place else sorted((Path(place) / MODELS).glob("*/videos.lance"))
    return [str(table.parent) for table in tables]


def _absolute(uri: str | os.PathLike[str]) -> str:
    return str(uri) if "://" in str(uri) else os.path.abspath(os.path.expanduser(uri))
