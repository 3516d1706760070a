"""Files to rows of an index: folders are walked, files segmented and encoded, and what has changed is written.

A file is known by its path, size and time of change, and where those differ, by its content: a moved, copied or merely
touched file is not decoded again. The rows of a video change in one commit, so a run that was killed is run again.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from time import monotonic, perf_counter, time

import torch
from filelock import FileLock, Timeout

from videollm.checkpoint import config_of
from videollm.config import ModelConfig
from videollm.encoders.base import FrameEncoder
from videollm.encoders.build import build_encoder
from videollm.errors import SearchIndexError, VideoError
from videollm.features.encode import encode_video
from videollm.retrieval.table import SegmentRow, SegmentTable, VideoRow
from videollm.retrieval.video_files import roots, video_files
from videollm.video.decode import probe
from videollm.video.subtitles import Cue, embedded_subtitles, read_subtitles, subtitle_files, text_between

COMMIT_VIDEOS, COMMIT_S = 64, 10.0  # a commit comes after so many videos or seconds; a kill loses no more than that
MAX_WORKERS = 8
ABANDONED_S = 3600  # a temporary folder this old belongs to a process that was killed


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexReport:
    """What an update did, in numbers of files. segments: of the whole index. problems: path and reason of every file in
    the sources that cannot be read, or not wholly, or whose subtitles cannot be read."""

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
    """The rows that the tables should hold for a file. is_reused: they were there already, under another path or from
    the same content."""

    video: VideoRow
    segments: list[SegmentRow]
    is_reused: bool = False


# Called with the number of files done, the number of new or changed files, and the path of the latest.
Progress = Callable[[int, int, str], None]

# Makes the rows of files, given as paths, in any order; the set holds hashes of contents that the tables know.
IndexFiles = Callable[[Sequence[str], set[str]], Iterator[IndexedVideo]]


class Indexer:
    """Makes rows of video files with one encoder, and writes them to the tables."""

    def __init__(self, table: SegmentTable, config: ModelConfig, encoder: FrameEncoder):
        self.table, self.config, self.encoder = table, config, encoder

    @classmethod
    def open(cls, uri: str, device: str | None = None) -> "Indexer":
        """For a worker in another process: everything is loaded from what the index says about itself.

        Raises SearchIndexError where there is no index, or its encoder has changed.
        """
        table = SegmentTable.open(uri)
        config = config_of(table.made_with["model"])
        return cls(table, config, load_encoder(table, config, device))

    def update(
        self,
        sources: Sequence[str | os.PathLike[str]],
        folder: Path,
        index_files: IndexFiles,
        *,
        progress: Progress | None = None,
        commit_videos: int = COMMIT_VIDEOS,
    ) -> IndexReport:
        """Bring the tables in step with `sources`; see `Index.update`.

        folder: where the lock lies, and folders that killed processes have left. index_files: makes the rows, in this
        process (`in_threads`) or in others. Raises VideoNotFoundError for a source that does not exist,
        SearchIndexError while another process updates.
        """
        started = perf_counter()
        lock = FileLock(folder / "lock")
        try:
            lock.acquire(blocking=False)
        except Timeout as error:
            raise SearchIndexError(f"{self.table.uri}: another process is indexing into it; wait for it") from error
        with lock:
            self.table.refresh()
            _remove_abandoned(folder)
            return self._update(sources, index_files, progress, commit_videos, started)

    def _update(
        self,
        sources: Sequence[str | os.PathLike[str]],
        index_files: IndexFiles,
        progress: Progress | None,
        commit_videos: int,
        started: float,
    ) -> IndexReport:
        files = dict.fromkeys(video_files(sources))  # a set that keeps the order
        known = self.table.videos()
        shas = {row.sha for row in known.values() if row.segments}
        todo = [file for file in files if not _is_unchanged(file, known.get(file))]
        gone = [p for p in known if p not in files and _is_below(Path(p), roots(sources)) and not os.path.lexists(p)]

        counts = dict.fromkeys(("added", "changed", "moved"), 0)
        pending: list[IndexedVideo] = []
        committed = monotonic()
        for done, result in enumerate(index_files(todo, shas), 1):
            pending.append(result)
            if result.video.segments:
                before = known.get(result.video.path)
                counts["moved" if result.is_reused else "changed" if before and before.segments else "added"] += 1
            if progress:
                progress(done, len(todo), result.video.path)
            if len(pending) >= commit_videos or monotonic() - committed > COMMIT_S or done == len(todo):
                self.table.replace([r.video for r in pending], [s for r in pending for s in r.segments])
                pending, committed = [], monotonic()
        # Rows of files that are gone are removed last, so that files that have moved can take them over.
        if gone:
            self.table.remove(gone)
        if todo or gone:
            self.table.settle()
        now = self.table.videos()
        there = [now[file] for file in files]
        return IndexReport(
            **counts,
            removed=len(gone),
            unchanged=len(files) - len(todo),
            unreadable=sum(row.segments == 0 for row in there),
            segments=self.table.count(),
            problems=tuple((row.path, row.problem) for row in there if row.problem),
            seconds=perf_counter() - started,
        )

    def in_threads(self, workers: int | None) -> IndexFiles:
        """Files are decoded and encoded by so many threads (default: one for each core, at most MAX_WORKERS)."""
        count = workers or min(os.cpu_count() or 1, MAX_WORKERS)
        return lambda files, shas: _parallel(lambda file: self.index_file(file, shas), files, count)

    def index_file(self, file: str, known_shas: set[str]) -> IndexedVideo:
        """The rows of one file. Thread-safe. A file that cannot be read gives a row that says why."""
        try:
            stat = os.stat(file)
        except OSError as error:
            return IndexedVideo(VideoRow(file, 0, 0, "", "", 0.0, 0, (error.strerror or str(error)).lower()), [])
        row = VideoRow(file, stat.st_size, stat.st_mtime_ns, _subtitles_stamp(file), "", 0.0, 0, "")
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
            return IndexedVideo(replace(row, problem=error.reason), [])
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
        return IndexedVideo(row, segments, is_reused)

    def _encode(self, file: str) -> tuple[list[SegmentRow], int]:
        """The segments' rows, and the number of frames that could not be decoded."""
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


def load_encoder(
    table: SegmentTable,
    config: ModelConfig,
    device: str | torch.device | None = None,
    given: FrameEncoder | None = None,
) -> FrameEncoder:
    """The encoder that an index was made with: `given`, or loaded to `device`.

    Raises SearchIndexError where its revision is another one: its embeddings could not be compared with the index's.
    """
    encoder = given or build_encoder(config.encoder, device)
    if encoder.revision != table.made_with["revision"]:
        raise SearchIndexError(
            f"{table.uri}: the index was made with revision {table.made_with['revision']} of encoder "
            f"{encoder.name}, this one is {encoder.revision}; make the index again"
        )
    return encoder


def _remove_abandoned(folder: Path) -> None:
    for temporary in folder.glob(".*.tmp"):
        if time() - temporary.stat().st_mtime > ABANDONED_S:
            shutil.rmtree(temporary, ignore_errors=True)


def _is_below(path: Path, roots: Iterable[Path]) -> bool:
    return any(path.is_relative_to(root) for root in roots)


def _is_unchanged(file: str, row: VideoRow | None) -> bool:
    if row is None or not os.path.exists(file):
        return False
    stat = os.stat(file)
    return (row.bytes, row.mtime_ns, row.subtitles) == (stat.st_size, stat.st_mtime_ns, _subtitles_stamp(file))


def _subtitles_stamp(video: str) -> str:
    """Names, sizes and times of the subtitle files beside a video."""
    stats = [(file.name, file.stat()) for file in subtitle_files(video)]
    return " ".join(f"{name}:{stat.st_size}:{stat.st_mtime_ns}" for name, stat in stats)


def _cues(file: str) -> tuple[list[Cue], str]:
    """The cues of the subtitle files beside a video, or else of its own streams, and what was wrong with them."""
    try:
        beside = subtitle_files(file)
        return ([cue for s in beside for cue in read_subtitles(s)] if beside else embedded_subtitles(file)), ""
    except VideoError as error:
        return [], f"{Path(error.path).name}: {error.reason}"


def _parallel(function: Callable[[str], IndexedVideo], files: Sequence[str], workers: int) -> Iterator[IndexedVideo]:
    """Results as they come, from threads that share the cores: PyTorch gets an equal share of them in each.

    Each thread decodes and encodes one video by turns. While one decodes another encodes, and none waits for another,
    as separate threads for decoding and for encoding would.
    """
    cores = torch.get_num_threads()
    share = max(1, cores // workers)
    rest = iter(files)
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(share,)) as pool:
            running: set[Future[IndexedVideo]] = {pool.submit(function, file) for file in islice(rest, 2 * workers)}
            while running:
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                running |= {pool.submit(function, file) for file in islice(rest, len(finished))}
                yield from (future.result() for future in finished)
    finally:
        torch.set_num_threads(cores)
