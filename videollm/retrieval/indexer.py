"""Turns video files into rows of an index: finds new and changed files, encodes their segments and writes the rows.

A file is recognised by its path, size and modification time, and if these differ, by its content: a file that was
moved, copied or touched is not decoded again. All rows of a video change in one commit, so that an update can be killed
at any time and run again.
"""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import monotonic, perf_counter, time
from typing import Literal

import torch
from filelock import FileLock, Timeout

from videollm.config import ModelConfig
from videollm.encoders.base import FrameEncoder
from videollm.encoders.build import build_encoder
from videollm.encoders.segments import embed_frames
from videollm.errors import (
    FOREIGN,
    SearchIndexError,
    VideoError,
    VideoLLMError,
    VideoNotFoundError,
    printable,
    reason_of,
)
from videollm.features.encode import encode_video
from videollm.retrieval.indexable import config_to_index
from videollm.retrieval.missing import KEPT, emptied_folders, is_gone
from videollm.retrieval.parallel import in_parallel
from videollm.retrieval.sensed import sense_file
from videollm.retrieval.table import SegmentRow, SegmentTable, VideoRow
from videollm.retrieval.video_files import PASSED_OVER, find_videos
from videollm.video.container import video_errors
from videollm.video.decoding import probe
from videollm.video.subtitles import CueTexts, SubtitleFolders

# Rows are committed after so many videos or seconds. A process that is killed loses no more work than that.
COMMIT_VIDEOS, COMMIT_S = 64, 10.0
MAX_WORKERS = 8
ABANDONED_S = 3600  # a temporary folder that is older belongs to a process that was killed


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexReport:
    """The result of an update.

    Attributes:
        added, changed, moved, removed, unchanged: Numbers of files. A moved file has content that was indexed before.
        unreadable: The number of files in the sources that cannot be read.
        segments: The number of segments in the whole index.
        problems: Path and reason of every file in the sources that cannot be read, can be read only partly, or has
            subtitles that cannot be read; of folders that cannot be read or have pictures; and of folders whose videos
            are all gone and whose rows were kept.
        seconds: The time that the update took.
    """

    added: int
    changed: int
    moved: int
    removed: int
    unchanged: int
    unreadable: int
    segments: int
    problems: tuple[tuple[str, str], ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class IndexedVideo:
    """The rows of one file. `is_reused` is True if they were copied from rows of a file with the same content."""

    video: VideoRow
    segments: list[SegmentRow]
    is_reused: bool = False


# Called with the number of files done, the number of new or changed files, and the path of the latest.
Progress = Callable[[int, int, str], None]

# Yields the rows of files, given by their paths, in any order. The set has the hashes of all indexed contents.
IndexFiles = Callable[[Sequence[str], set[str]], Iterator[IndexedVideo]]


class Indexer:
    """Encodes video files with one encoder, and writes their rows to the tables."""

    def __init__(
        self,
        table: SegmentTable,
        config: ModelConfig,
        encoder: FrameEncoder,
        senses: Sequence[str] = (),
        device: str | torch.device | None = None,
    ):
        self.table, self.config, self.encoder = table, config, encoder
        self.senses, self.device = senses, device
        self._subtitles = SubtitleFolders()

    @classmethod
    def open(cls, uri: str, device: str | None = None, senses: Sequence[str] = ()) -> "Indexer":
        """Returns an indexer for a worker in another process. The index itself says which model to load.

        Args:
            uri: Where the index is.
            device: The device of the encoder (see `resolve_device`). None takes the worker's VIDEOLLM_DEVICE.
            senses: The senses that look at each file.

        Raises SearchIndexError if there is no index, or its encoder has changed.
        """
        table = SegmentTable.open(uri)
        config = config_to_index(table.made_with["model"])
        return cls(table, config, load_encoder(table, config, device), senses, device)

    def update(
        self,
        sources: Sequence[str | os.PathLike[str]],
        folder: Path,
        index_files: IndexFiles,
        *,
        progress: Progress | None = None,
        commit_videos: int = COMMIT_VIDEOS,
        drop_missing: bool = False,
    ) -> IndexReport:
        """Updates the tables to the present content of `sources`; see `Index.update`.

        Args:
            sources: Folders, video files, and text files that list either.
            folder: The folder of the lock, and of temporary folders that killed processes have left.
            index_files: The function that makes the rows, in this process (`in_threads`) or in others.
            progress: A function that is called after each file.
            commit_videos: The largest number of videos between two commits.
            drop_missing: Also remove the rows of folders that are empty now.

        Raises:
            VideoNotFoundError: If a source does not exist.
            SearchIndexError: If another process is updating the index.
        """
        started = perf_counter()
        lock = FileLock(folder / "lock")
        try:
            lock.acquire(blocking=False)
        except Timeout as error:
            raise SearchIndexError(
                f"{self.table.uri}: another process is indexing into it; try again when it has finished"
            ) from error
        with lock:
            self.table.refresh()
            _remove_abandoned(folder)
            return self._update(sources, index_files, progress, commit_videos, drop_missing, started)

    def _update(
        self,
        sources: Sequence[str | os.PathLike[str]],
        index_files: IndexFiles,
        progress: Progress | None,
        commit_videos: int,
        drop_missing: bool,
        started: float,
    ) -> IndexReport:
        found = find_videos(sources)
        files, self._subtitles = found.files, SubtitleFolders()
        counts_of = self.table.segment_counts()
        # A row of a video whose segments were lost, with a table for example, says nothing about it.
        rows = self.table.videos()
        known = {p: row for p, row in rows.items() if row.segments == counts_of.get(p, 0)}
        shas = {row.sha for row in known.values() if row.segments}
        missing = [p for p in rows | counts_of if p not in files and is_gone(p)]
        gone = [p for p in missing if not found.roots.keys().isdisjoint((Path(p), *Path(p).parents))]
        listed = [p for p in files if p in known and known[p].segments and is_gone(p)]
        kept = {} if drop_missing else emptied_folders([*gone, *listed], found.roots)
        gone = [p for p in gone if p not in kept]
        todo = [file for file in files if file not in kept and not self._is_unchanged(file, known.get(file))]

        counts = {"added": 0, "changed": 0, "moved": 0}
        pending: list[IndexedVideo] = []
        committed = monotonic()
        for done, result in enumerate(index_files(todo, shas), 1):
            pending.append(result)
            if result.video.segments:
                counts[_change(known.get(result.video.path), result)] += 1
            if progress:
                progress(done, len(todo), result.video.path)
            if len(pending) >= commit_videos or monotonic() - committed > COMMIT_S or done == len(todo):
                self.table.replace([r.video for r in pending], [s for r in pending for s in r.segments])
                pending, committed = [], monotonic()
        # Rows of missing files are removed last: a moved file copies the rows of its old path.
        if gone:
            self.table.remove(gone)
        if todo or gone:
            self.table.settle()
        now = self.table.videos() if todo else rows
        there = [now[file] for file in files]
        problems = [(row.path, row.problem) for row in there if row.problem]
        problems += [(folder, KEPT.format(count)) for folder, count in Counter(kept.values()).items()]
        problems += [(folder, PASSED_OVER.format(count)) for folder, count in found.pictures.items()]
        return IndexReport(
            **counts,
            removed=len(gone),
            unchanged=len(files) - len(todo),
            unreadable=sum(row.segments == 0 for row in there) + len(found.problems),
            segments=self.table.count(),
            problems=(*problems, *found.problems),
            seconds=perf_counter() - started,
        )

    def in_threads(self, workers: int | None) -> IndexFiles:
        """Returns a function that indexes files in threads of this process.

        workers: The number of threads. None selects one per core, at most `MAX_WORKERS`.
        """
        count = workers or min(os.cpu_count() or 1, MAX_WORKERS)
        return lambda files, shas: in_parallel(lambda file: self.index_file(file, shas), files, count)

    def index_file(self, file: str, known_shas: set[str]) -> IndexedVideo:
        """Returns the rows of one file. A file that cannot be read has no segments and a row with the reason.

        The function is thread-safe.
        """
        row = VideoRow(file, 0, 0, "", "", 0.0, 0, "", ",".join(self.senses))
        try:
            return self._indexed(file, row, known_shas)
        except VideoNotFoundError as error:  # without size and time, so that it is tried again
            return IndexedVideo(replace(row, problem=printable(error.reason)), [])
        except VideoError as error:
            stat = os.stat(file)
            row = replace(row, bytes=stat.st_size, mtime_ns=stat.st_mtime_ns, subtitles=self._subtitles_stamp(file))
            return IndexedVideo(replace(row, problem=printable(error.reason)), [])
        except VideoLLMError:  # not of this file
            raise
        except FOREIGN as error:
            return IndexedVideo(replace(row, problem=f"it cannot be read ({reason_of(error)})"), [])

    def _indexed(self, file: str, row: VideoRow, known_shas: set[str]) -> IndexedVideo:
        with video_errors(file):
            stat, beside, stamp = os.stat(file), self._subtitles.beside(file), self._subtitles_stamp(file)
        info = probe(file)
        found = sense_file(file, beside, self.senses, self.device)
        problems = found.problems
        parts = self.table.of_content(info.content_sha) if info.content_sha in known_shas else []
        is_reused = bool(parts)
        if not is_reused:
            parts, lost = self._encode(file)
            problems += [f"{lost} of its frames could not be decoded"] if lost else []
        texts = CueTexts(found.cues)
        segments = [found.added_to(replace(s, path=file, date=stat.st_mtime), texts) for s in parts]
        row = replace(
            row,
            bytes=stat.st_size,
            mtime_ns=stat.st_mtime_ns,
            subtitles=stamp,
            sha=info.content_sha,
            duration_s=info.duration_s,
            segments=len(segments),
            problem="; ".join(problems),
            senses=",".join(found.senses),
        )
        return IndexedVideo(row, segments, is_reused)

    def _is_unchanged(self, file: str, row: VideoRow | None) -> bool:
        if row is None or row.senses is None or not set(self.senses) <= set(row.senses.split(",")):
            return False
        try:
            stat = os.stat(file)
            return (row.bytes, row.mtime_ns, row.subtitles) == (
                stat.st_size,
                stat.st_mtime_ns,
                self._subtitles_stamp(file),
            )
        except (OSError, ValueError):
            return False

    def _subtitles_stamp(self, video: str) -> str:
        """Returns names, sizes and modification times of the subtitle files beside a video, to detect changes.

        A file without permission counts as another one, so that it is read once there is permission.
        """
        by_effective = os.access in os.supports_effective_ids
        stats = [
            (file.name, file.stat(), os.access(file, os.R_OK, effective_ids=by_effective))
            for file in self._subtitles.beside(video)
        ]
        return " ".join(
            printable(f"{name}:{stat.st_size}:{stat.st_mtime_ns}{'' if is_readable else '!'}")
            for name, stat, is_readable in stats
        )

    def _encode(self, file: str) -> tuple[list[SegmentRow], int]:
        """Returns the rows of the segments, and the number of frames that could not be decoded."""
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
                date=0.0,  # `index_file` sets what belongs to the file or to its findings
                tags=[asdict(tag) for tag in part.tags],
                text="",
                said="",
                things="",
                embedding=embed_frames(self.encoder, part.tokens, part.embed[None], part.times_s).flatten().numpy(),
            )
            for n, part in enumerate(parts)
        ]
        return rows, video.lost


def load_encoder(
    table: SegmentTable,
    config: ModelConfig,
    device: str | torch.device | None = None,
    given: FrameEncoder | None = None,
) -> FrameEncoder:
    """Returns the encoder that an index was made with: `given`, or else a new one on `device`.

    Raises SearchIndexError if the encoder has another revision than that of the index, because embeddings of different
    revisions cannot be compared.
    """
    encoder = given or build_encoder(config.encoder, device)
    if encoder.revision != table.made_with["revision"]:
        raise SearchIndexError(
            f"{table.uri}: the index was made with revision {table.made_with['revision']} of encoder "
            f"{encoder.name}, but this is revision {encoder.revision}; make the index again"
        )
    return encoder


def _remove_abandoned(folder: Path) -> None:
    for temporary in folder.glob(".*.tmp"):
        if time() - temporary.stat().st_mtime > ABANDONED_S:
            shutil.rmtree(temporary, ignore_errors=True)


def _change(before: VideoRow | None, after: IndexedVideo) -> Literal["added", "changed", "moved"]:
    """Returns the name of the count that a readable file adds to."""
    if before is not None and before.segments and before.senses != after.video.senses:
        return "changed"
    if after.is_reused:
        return "moved"
    return "changed" if before is not None and before.segments else "added"
