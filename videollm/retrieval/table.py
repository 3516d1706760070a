"""The durable form of an index: two LanceDB tables, in a folder, an object store or a LanceDB server.

`segments` has a row for each segment of each video; all rows of a video are replaced in one commit. `videos` has a row
for each file that was looked at, readable or not, and is committed after: a video whose segments were committed and
whose own row was not is simply looked at again. So a process may be killed at any time.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.index import FTS

from videollm.errors import SearchIndexError

FORMAT = 1
_NOTE = b"videollm"  # where the schema keeps what the index was made with
_VIDEOS = pa.schema(
    {
        "path": pa.string(),
        "bytes": pa.int64(),
        "mtime_ns": pa.int64(),
        "subtitles": pa.string(),
        "sha": pa.string(),
        "duration_s": pa.float64(),
        "segments": pa.int32(),
        "problem": pa.string(),
    }
)
TEXT_HITS = 256  # segments that a text search looks at


@dataclass(frozen=True, slots=True)
class VideoRow:
    """A file as it was when it was indexed. subtitles: names, sizes and times of the subtitle files beside it.
    segments is 0 and `problem` says why where it cannot be read; a readable file may have a problem too."""

    path: str
    bytes: int
    mtime_ns: int
    subtitles: str
    sha: str
    duration_s: float
    segments: int
    problem: str


@dataclass(frozen=True, slots=True)
class SegmentRow:
    """A stretch of a video: number n in it, from start_s to end_s, embedding float32 (E,) of length 1, tags as words
    with probabilities, text that the subtitles show meanwhile. date: when the file was last changed, in UTC seconds."""

    path: str
    n: int
    start_s: float
    end_s: float
    sha: str
    duration_s: float
    date: float
    tags: list[dict[str, Any]]
    text: str
    embedding: np.ndarray


def _segments(width: int, note: bytes) -> pa.Schema:
    tags = pa.list_(pa.struct({"word": pa.string(), "prob": pa.float32()}))
    return pa.schema(
        {
            "path": pa.string(),
            "n": pa.int32(),
            "start_s": pa.float64(),
            "end_s": pa.float64(),
            "sha": pa.string(),
            "duration_s": pa.float64(),
            "date": pa.float64(),
            "tags": tags,
            "text": pa.string(),
            "embedding": pa.list_(pa.float32(), width),
        },
        metadata={_NOTE: note},
    )


class SegmentTable:
    """The tables at `uri`. made_with: plain values that say what the rows were made with."""

    def __init__(self, uri: str, segments: Any, videos: Any):
        self.uri = uri
        self._segments, self._videos = segments, videos
        self.schema: pa.Schema = segments.schema
        self.made_with: dict[str, Any] = json.loads((self.schema.metadata or {})[_NOTE])
        self.width: int = self.schema.field("embedding").type.list_size

    @classmethod
    def create(cls, uri: str, made_with: dict[str, Any], width: int) -> "SegmentTable":
        """Open the tables, made first where there are none."""
        database = lancedb.connect(uri)
        schema = _segments(width, json.dumps({"format": FORMAT, **made_with}).encode())
        try:
            # LanceDB would refuse to create a table that is there with another note, which older versions wrote.
            segments = database.open_table("segments")
        except ValueError:
            segments = database.create_table("segments", schema=schema, exist_ok=True)
        if not segments.list_indices():
            segments.create_index("text", config=FTS(stem=True, remove_stop_words=True))
        return cls._checked(uri, segments, database.create_table("videos", schema=_VIDEOS, exist_ok=True))

    @classmethod
    def open(cls, uri: str) -> "SegmentTable":
        """Raises SearchIndexError where there is no index, or one that this version cannot read."""
        missing = SearchIndexError(f"{uri}: no index; make one with `videollm index FOLDER --index {uri}`")
        if "://" not in uri and not Path(uri).is_dir():  # connecting would make it
            raise missing
        database = lancedb.connect(uri)
        try:
            return cls._checked(uri, database.open_table("segments"), database.open_table("videos"))
        except ValueError as error:
            raise missing from error

    @classmethod
    def _checked(cls, uri: str, segments: Any, videos: Any) -> "SegmentTable":
        note = json.loads((segments.schema.metadata or {}).get(_NOTE, b"{}"))
        if note.get("format") != FORMAT:
            raise SearchIndexError(f"{uri}: the index has format {note.get('format')}, this version reads {FORMAT}")
        return cls(uri, segments, videos)

    @property
    def version(self) -> int:
        """Changes with every commit to the segments."""
        return self._segments.version

    def refresh(self) -> None:
        """Go to the latest version, which another process may have written."""
        self._segments.checkout_latest()

    def count(self) -> int:
        return self._segments.count_rows()

    def videos(self) -> dict[str, VideoRow]:
        return {row["path"]: VideoRow(**row) for row in self._videos.to_arrow().to_pylist()}

    def replace(self, videos: list[VideoRow], segments: list[SegmentRow]) -> None:
        """Put `videos` and their `segments` in the place of what their paths had."""
        self._put(self._segments, self.schema, ["path", "n"], videos, segments)
        self._put(self._videos, _VIDEOS, ["path"], videos, videos)

    @staticmethod
    def _put(table: Any, schema: pa.Schema, keys: list[str], videos: list[VideoRow], rows: list[Any]) -> None:
        columns = {name: [getattr(row, name) for row in rows] for name in schema.names}
        (
            table.merge_insert(keys)
            .when_matched_update_all()
            .when_not_matched_insert_all()
            .when_not_matched_by_source_delete(_one_of("path", [v.path for v in videos]))
            .execute(pa.table(columns, schema=schema))
        )

    def remove(self, paths: list[str]) -> None:
        for table in (self._segments, self._videos):
            table.delete(_one_of("path", paths))

    def of_content(self, sha: str) -> list[SegmentRow]:
        """The segments of a video with this content, wherever it lies; none if it is not known."""
        rows = self._segments.search().where(f"sha = {_quoted(sha)}").to_arrow().to_pylist()
        rows = [SegmentRow(**row) for row in rows]
        return sorted((row for row in rows if row.path == min(r.path for r in rows)), key=lambda row: row.n)

    def settle(self) -> None:
        """Join what many small commits left apart, rows and text index, and drop versions older than a week."""
        for table in (self._segments, self._videos):
            table.optimize(cleanup_older_than=timedelta(days=7))

    def embeddings(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Row ids int64 (B,) and embeddings (B,E), in batches."""
        for batch in self._segments.search().with_row_id(True).select(["embedding"]).to_batches():
            if batch.num_rows:
                flat = batch["embedding"].flatten().to_numpy()
                yield batch["_rowid"].to_numpy().astype(np.int64), flat.reshape(-1, self.width)

    def matching(self, condition: str) -> np.ndarray:
        """Row ids of the segments for which a SQL condition holds."""
        found = self._segments.search().where(condition).with_row_id(True).select(["n"]).to_arrow()
        return found["_rowid"].to_numpy().astype(np.int64)

    def fetch(self, ids: Iterable[int]) -> dict[int, SegmentRow]:
        """Rows by id, without their embeddings."""
        columns = [name for name in self.schema.names if name != "embedding"]
        found = self._segments.take_row_ids(list(ids)).with_row_id().select(columns).to_arrow().to_pylist()
        return {row.pop("_rowid"): SegmentRow(**row, embedding=np.empty(0)) for row in found}

    def matching_text(self, query: str, condition: str | None) -> dict[int, float]:
        """For the segments whose text shares words with `query`: row id -> share of the query's words it has.

        Words are compared by their stems; words like "the" do not count. The TEXT_HITS best by BM25 are looked at.
        """
        words = self._words(query)
        if not words:
            return {}
        search = self._segments.search(query, query_type="fts").with_row_id(True).select(["text", "_score"])
        found = (search.where(condition, prefilter=True) if condition else search).limit(TEXT_HITS).to_arrow()
        return {row["_rowid"]: len(words & self._words(row["text"])) / len(words) for row in found.to_pylist()}

    def _words(self, text: str) -> set[str]:
        return {token.text for token in self._segments.tokenize(text, column="text")}


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _one_of(column: str, values: list[str]) -> str:
    return f"{column} IN ({', '.join(map(_quoted, values))})" if values else "false"


def condition(
    *,
    folder: str | None = None,
    min_duration_s: float | None = None,
    max_duration_s: float | None = None,
    after: float | None = None,
    before: float | None = None,
) -> str | None:
    """SQL for the segments of videos below a folder, of these durations, last changed between these times."""
    parts = []
    if folder is not None:
        parts.append(f"starts_with(path, {_quoted(folder.rstrip('/') + '/')})")
    bounds = (("duration_s", ">=", min_duration_s), ("duration_s", "<=", max_duration_s))
    bounds += (("date", ">=", after), ("date", "<", before))
    parts += [f"{column} {sign} {bound!r}" for column, sign, bound in bounds if bound is not None]
    return " AND ".join(parts) or None
