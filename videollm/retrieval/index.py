"""An index of videos: folders are walked, files segmented and encoded, and what changed is written to the tables.

A file is known by its path, size and time of change, and where those differ, by its content: a moved, copied or merely
touched file is not decoded again. Each video's rows change in one commit, so a run that was killed is simply run again.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from time import monotonic, perf_counter, time

import torch
from filelock import FileLock, Timeout

from videollm.assets import cache_dir
from videollm.checkpoint import config_of
from videollm.config import ModelConfig
from videollm.encoders.base import FrameEncoder
from videollm.encoders.build import build_encoder
from videollm.errors import ConfigError, SearchIndexError, VideoError
from videollm.features.encode import encode_video
from videollm.retrieval.table import SegmentRow, SegmentTable, VideoRow
from videollm.retrieval.vectors import Vectors
from videollm.retrieval.walk import roots, video_files
from videollm.video.decode import probe
from videollm.video.subtitles import Cue, embedded_subtitles, read_subtitles, subtitle_files, text_between

EXACT_ROWS = 2_000_000  # beyond this many segments, search goes through an approximate graph
COMMIT_VIDEOS, COMMIT_S = 64, 10.0  # a commit comes after so many videos or seconds; a kill loses no more than that
MOST_WORKERS = 8
ABANDONED_S = 3600


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What an update did, in files. problems: (path, reason) of every file in the sources that cannot be read, or not
    wholly, or whose subtitles cannot."""

    added: int
    changed: int
    moved: int
    removed: int
    unchanged: int
    unreadable: int
    segments: int
    problems: tuple[tuple[str, str], ...]
    seconds: float


# Called with the number of files done, of all that are new or changed, and the latest one's path.
Progress = Callable[[int, int, str], None]


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
        for name, value in made_with.items():
            if (there := table.made_with[name]) != value:
                raise SearchIndexError(
                    f"{uri}: the index was made with {name} {there}, not {value}; use the same, or make another index"
                )
        return cls(table, config, encoder)

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
        encoder = self._given or build_encoder(self.config.encoder, self.device)
        if encoder.revision != self.table.made_with["revision"]:
            raise SearchIndexError(
                f"{self.table.uri}: the index was made with revision {self.table.made_with['revision']} of encoder "
                f"{encoder.name}, this one is {encoder.revision}; make the index again"
            )
        return encoder

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
        """Where files live that are made from the tables, and the lock: in the index's folder, or the cache."""
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
    ) -> Report:
        """Bring the index in step with `sources`: folders, video files, and text files that list either, one a line.

        New and changed files are encoded, files that are gone from the sources and from the disk are removed. workers:
        threads that each decode and encode one video at a time (default: one for each core, at most 8). ray: address of
        a cluster that does it instead, see `spread`. Raises VideoNotFoundError for a source that does not exist,
        SearchIndexError while another process updates.
        """
        started = perf_counter()
        if workers is not None and workers < 1:
            raise ConfigError(f"workers is {workers}; it must be at least 1")
        if workers is not None and ray is not None:
            raise ConfigError(f"workers is {workers}, but a Ray cluster uses all that it has; leave one of them out")
        lock = FileLock(self._local / "lock")
        try:
            lock.acquire(blocking=False)
        except Timeout as error:
            raise SearchIndexError(f"{self.table.uri}: another process is indexing into it; wait for it") from error
        with lock:
            self.table.refresh()
            self._sweep()
            return self._update(sources, workers, ray, progress, commit_videos, started)

    def _sweep(self) -> None:
        """Remove what processes left that were killed while they wrote."""
        for folder in self._local.glob(".*.tmp"):
            if time() - folder.stat().st_mtime > ABANDONED_S:
                shutil.rmtree(folder, ignore_errors=True)

    def _update(
        self,
        sources: Sequence[str | os.PathLike[str]],
        workers: int | None,
        ray: str | None,
        progress: Progress | None,
        commit_videos: int,
        started: float,
    ) -> Report:
        files = dict.fromkeys(video_files(sources))  # a set in order
        known = self.table.videos()
        shas = {row.sha for row in known.values() if row.segments}
        todo = [file for file in files if not _is_unchanged(file, known.get(file))]
        gone = [p for p in known if p not in files and _is_below(Path(p), roots(sources)) and not os.path.lexists(p)]

        counts = dict.fromkeys(("added", "changed", "moved"), 0)
        self.encoder  # noqa: B018  (loaded before the threads want it)
        pending: list[Indexed] = []
        committed = monotonic()
        for done, result in enumerate(self._look_all(todo, shas, workers, ray), 1):
            pending.append(result)
            if result.video.segments:
                before = known.get(result.video.path)
                counts["moved" if result.is_reused else "changed" if before and before.segments else "added"] += 1
            if progress:
                progress(done, len(todo), result.video.path)
            if len(pending) >= commit_videos or monotonic() - committed > COMMIT_S or done == len(todo):
                self.table.replace([r.video for r in pending], [s for r in pending for s in r.segments])
                pending, committed = [], monotonic()
        # Only now, so that files that moved can take their rows along.
        if gone:
            self.table.remove(gone)
        if todo or gone:
            self.table.settle()
        segments = len(self.vectors or ())
        now = self.table.videos()
        there = [now[file] for file in files]
        return Report(
            **counts,
            removed=len(gone),
            unchanged=len(files) - len(todo),
            unreadable=sum(row.segments == 0 for row in there),
            segments=segments,
            problems=tuple((row.path, row.problem) for row in there if row.problem),
            seconds=perf_counter() - started,
        )

    def _look_all(
        self, files: Sequence[str], known_shas: set[str], workers: int | None, ray: str | None
    ) -> Iterator["Indexed"]:
        if ray is None:
            workers = workers or min(os.cpu_count() or 1, MOST_WORKERS)
            return _parallel(lambda file: self.look(file, known_shas), files, workers)
        from videollm.retrieval.spread import on_ray

        return on_ray(ray, self.table.uri, files, known_shas)

    def look(self, file: str, known_shas: set[str]) -> "Indexed":
        """What the tables should hold for a file; thread-safe."""
        try:
            stat = os.stat(file)
        except OSError as error:
            return Indexed(VideoRow(file, 0, 0, "", "", 0.0, 0, (error.strerror or str(error)).lower()), [])
        row = VideoRow(file, stat.st_size, stat.st_mtime_ns, _fingerprint(file), "", 0.0, 0, "")
        try:
            info = probe(file)
            problems = []
            cues, problem = _cues(file)
            problems += [problem] if problem else []
            parts = self.table.of_content(info.content_sha) if info.content_sha in known_shas else []
            is_reused = bool(parts)
            if not is_reused:
                parts, lost = self._encode(file)
                problems += [f"{lost} of its frames could not be decoded"] if lost else []
        except VideoError as error:
            return Indexed(replace(row, problem=error.reason), [])
        segments = [
            replace(s, path=file, date=stat.st_mtime, text=text_between(cues, s.start_s, s.end_s)) for s in parts
        ]
        row = replace(
            row,
            sha=info.content_sha,
            duration_s=info.duration_s,
            segments=len(segments),
            problem="; ".join(problems),
        )
        return Indexed(row, segments, is_reused)

    def _encode(self, file: str) -> tuple[list[SegmentRow], int]:
        video = encode_video(file, self.encoder, self.config.sampling)
        parts = video.segments(self.config, self.encoder.vocabulary)
        rows = [
            SegmentRow(
                path=file,
                n=n,
                start_s=part.start_s,
                end_s=part.end_s,
                sha=video.info.content_sha,
                duration_s=video.info.duration_s,
                date=0.0,
                tags=[asdict(tag) for tag in part.tags],
                text="",
                embedding=part.embed.float().cpu().numpy(),
            )
            for n, part in enumerate(parts)
        ]
        return rows, video.lost


@dataclass(frozen=True, slots=True)
class Indexed:
    """What the tables should hold for a file."""

    video: VideoRow
    segments: list[SegmentRow]
    is_reused: bool = False


def _recipe(config: ModelConfig) -> dict[str, object]:
    """What decides which rows a video gives."""
    values = json.loads(json.dumps(config.to_dict()))  # as the table gives them back
    return {name: values[name] for name in ("sampling", "segments", "encoder")}


def _absolute(uri: str | os.PathLike[str]) -> str:
    return str(uri) if "://" in str(uri) else os.path.abspath(os.path.expanduser(uri))


def _is_below(path: Path, roots: Iterable[Path]) -> bool:
    return any(path.is_relative_to(root) for root in roots)


def _is_unchanged(file: str, row: VideoRow | None) -> bool:
    if row is None or not os.path.exists(file):
        return False
    stat = os.stat(file)
    return (row.bytes, row.mtime_ns, row.subtitles) == (stat.st_size, stat.st_mtime_ns, _fingerprint(file))


def _fingerprint(video: str) -> str:
    """Names, sizes and times of the subtitle files beside a video."""
    stats = [(file.name, file.stat()) for file in subtitle_files(video)]
    return " ".join(f"{name}:{stat.st_size}:{stat.st_mtime_ns}" for name, stat in stats)


def _cues(file: str) -> tuple[list[Cue], str]:
    """What the subtitle files beside a video say, else its own streams; and what was wrong with them."""
    try:
        beside = subtitle_files(file)
        return ([cue for s in beside for cue in read_subtitles(s)] if beside else embedded_subtitles(file)), ""
    except VideoError as error:
        return [], f"{Path(error.path).name}: {error.reason}"


def _parallel(function: Callable[[str], Indexed], files: Sequence[str], workers: int) -> Iterator[Indexed]:
    """Results as they come, from threads that share the cores: torch gets its part of them in each.

    One video a thread, decoding and encoding by turns: while one thread decodes, another encodes, and no thread waits
    for another, which threads for decoding and others for encoding would do.
    """
    cores = torch.get_num_threads()
    share = max(1, cores // workers)
    rest = iter(files)
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(share,)) as pool:
            running: set[Future[Indexed]] = {pool.submit(function, file) for file in islice(rest, 2 * workers)}
            while running:
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                running |= {pool.submit(function, file) for file in islice(rest, len(finished))}
                yield from (future.result() for future in finished)
    finally:
        torch.set_num_threads(cores)
