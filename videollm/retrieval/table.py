"""The stored form of an index: two LanceDB tables in a folder, an object store or a LanceDB server.

`segments` has one row for each segment of each video. All rows of a video are replaced in one commit. `videos` has one
row for each file, readable or not, and is committed after `segments`. A process may be killed at any time: if the
segments of a video were committed without its row in `videos`, the next update indexes it again.
"""

import json
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.index import FTS

from videollm.errors import NoIndexError, SearchIndexError

FORMAT = 1  # of the tables; an index of another format must be made again
_NOTE = b"videollm"  # the key of the schema's metadata under which `made_with` is stored
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
        "senses": pa.string(),
    }
)
_SENSED = {"said": "''", "things": "''"}  # columns that came with the senses, and what older rows have there
TEXT_HITS = 256  # segments that a text search returns


@dataclass(frozen=True, slots=True)
class VideoRow:
    """A file as it was when it was indexed.

    Attributes:
        path: The absolute path.
        bytes, mtime_ns: Size and modification time, by which changes are detected.
        subtitles: Names, sizes and modification times of the subtitle files beside it.
        sha: The hash of its content.
        duration_s: The duration in seconds.
        segments: The number of its segments, 0 if it cannot be read.
        problem: Why it cannot be read, or can be read only partly; else empty.
        senses: Names of the senses that looked at it, with commas; None in an index from before there were senses.
    """

    path: str
    bytes: int
    mtime_ns: int
    subtitles: str
    sha: str
    duration_s: float
    segments: int
    problem: str
    senses: str | None = None


@dataclass(frozen=True, slots=True)
class SegmentRow:
    """A segment of a video.

    Attributes:
        path: The absolute path of the video.
        n: The number of the segment in the video, from 0.
        start_s, end_s: Start and end in seconds.
        sha: The hash of the content of the video.
        duration_s: The duration of the video in seconds.
        date: The modification time of the file, in seconds since 1970 (UTC).
        tags: Words with their probabilities.
        text: What is said during the segment, from subtitles or the sense `speech`.
        embedding: The unit vectors of the segment, one after the other (V*E,), float32.
        said: The same as `retrieval.words.folded` writes it.
        things: The objects that are seen at once, as `retrieval.sensed` writes them.
    """

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
    said: str = ""
    things: str = ""


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
            "said": pa.string(),
            "things": pa.string(),
        },
        metadata={_NOTE: note},
    )


class SegmentTable:
    """The two tables of an index.

    Attributes:
        uri: Where the tables are.
        made_with: What the rows were made with, as JSON values: model, revision of the encoder, sampling and so on.
        vectors: V, the number of vectors of a segment.
        width: E, the width of the vectors.
    """

    def __init__(self, uri: str, segments: Any, videos: Any):
        self.uri = uri
        self._segments, self._videos = segments, videos
        self.schema: pa.Schema = segments.schema
        self.made_with: dict[str, Any] = json.loads((self.schema.metadata or {})[_NOTE])
        self.vectors: int = self.made_with.get("vectors", 1)
        self.width: int = self.schema.field("embedding").type.list_size // self.vectors

    @classmethod
    def create(cls, uri: str, made_with: dict[str, Any], width: int) -> "SegmentTable":
        """Opens the tables, and creates them if there are none.

        `made_with` and `width`, that of all vectors of a segment together, apply only to new tables.

        Raises SearchIndexError if this version cannot read the tables.
        """
        database = lancedb.connect(uri)
        schema = _segments(width, json.dumps({"format": FORMAT, "id": secrets.token_hex(8), **made_with}).encode())
        try:
            # LanceDB would refuse to create a table that is there with another note, which older versions wrote.
            segments = database.open_table("segments")
        except ValueError:
            segments = database.create_table("segments", schema=schema, exist_ok=True)
        if not segments.list_indices():
            segments.create_index("text", config=FTS(stem=True, remove_stop_words=True))
        try:
            videos = database.open_table("videos")
        except ValueError:
            videos = database.create_table("videos", schema=_VIDEOS, exist_ok=True)
        for table, added in ((segments, _SENSED), (videos, {"senses": "CAST(NULL AS STRING)"})):
            if missing := {name: value for name, value in added.items() if name not in table.schema.names}:
                table.add_columns(missing)
        return cls._checked(uri, segments, videos)

    @classmethod
    def open(cls, uri: str) -> "SegmentTable":
        """Opens the tables. Raises NoIndexError if there are none, and SearchIndexError if this version cannot read
        them."""
        missing = NoIndexError(f"{uri}: no index; make one with `videollm index FOLDER --index {uri}`")
        if "://" not in uri and not Path(uri).is_dir():  # lancedb.connect would create the folder
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
            raise SearchIndexError(
                f"{uri}: the index has format {note.get('format')}, but this version reads format {FORMAT}; "
                "make the index again"
            )
        return cls(uri, segments, videos)

    @property
    def id(self) -> str:
        """A random name that the tables got when they were made. Tables that were made by older versions have none."""
        return json.loads((self._segments.schema.metadata or {})[_NOTE]).get("id", "")

    @property
    def version(self) -> int:
        """The version of `segments`, which changes with every commit."""
        return self._segments.version

    def refresh(self) -> None:
        """Reads the latest version, which another process may have written."""
        self._segments.checkout_latest()

    def count(self) -> int:
        """Returns the number of segments."""
        return self._segments.count_rows()

    def segment_counts(self) -> dict[str, int]:
        """Returns the number of segments of each path that has any."""
        paths = self._segments.search().select(["path"]).to_arrow()["path"]
        return {count["values"]: count["counts"] for count in paths.value_counts().to_pylist()}

    def videos(self) -> dict[str, VideoRow]:
        """Returns the rows of all files, by path."""
        return {row["path"]: VideoRow(**row) for row in self._videos.to_arrow().to_pylist()}

    def replace(self, videos: list[VideoRow], segments: list[SegmentRow]) -> None:
        """Replaces all rows of the paths of `videos` by `videos` and `segments`."""
        self._put(self._segments, self.schema, ["path", "n"], videos, segments)
        self._put(self._videos, _VIDEOS, ["path"], videos, videos)

    def append(self, video: VideoRow, segments: list[SegmentRow]) -> None:
        """Adds further segments of a video that grows, and replaces its row in `videos`."""
        columns = {name: [getattr(row, name) for row in segments] for name in self.schema.names}
        self._segments.add(pa.table(columns, schema=self.schema))
        self._put(self._videos, _VIDEOS, ["path"], [video], [video])

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
        """Removes all rows of these paths."""
        for table in (self._segments, self._videos):
            table.delete(_one_of("path", paths))

    def of_content(self, sha: str) -> list[SegmentRow]:
        """Returns the segments of a video with this content under any path, or an empty list if there is none."""
        rows = self._segments.search().where(f"sha = {_quoted(sha)}").to_arrow().to_pylist()
        rows = [SegmentRow(**row) for row in rows]
        # Copies of a file have the same segments, so that the rows of one path are enough.
        return sorted((row for row in rows if row.path == min(r.path for r in rows)), key=lambda row: row.n)

    @property
    def has_findings(self) -> bool:
        """Whether the segments have the columns `said` and `things`."""
        return set(_SENSED) <= set(self.schema.names)

    @property
    def has_words(self) -> bool:
        """Whether anything is said in a segment, as subtitles or speech recognition have it."""
        return bool(self._segments.count_rows("said <> ''"))

    def senses(self) -> tuple[str, ...]:
        """Returns the names of the senses that looked at any of the videos."""
        if "senses" not in self._videos.schema.names:
            return ()
        used = self._videos.search().where("segments > 0 AND senses <> ''").select(["senses"]).to_arrow()["senses"]
        return tuple(sorted({name for names in used.unique().to_pylist() for name in names.split(",")}))

    def settle(self) -> None:
        """Merges the fragments of small commits, updates the text index, and deletes versions older than a week."""
        for table in (self._segments, self._videos):
            table.optimize(cleanup_older_than=timedelta(days=7))

    def embeddings(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields batches of row ids (B*V,), int64, in which each id stands V times, and vectors (B*V,E), float32."""
        for batch in self._segments.search().with_row_id(True).select(["embedding"]).to_batches():
            if batch.num_rows:
                flat = batch["embedding"].flatten().to_numpy()
                ids = batch["_rowid"].to_numpy().astype(np.int64)
                yield ids.repeat(self.vectors), flat.reshape(-1, self.width)

    def matching(self, condition: str) -> np.ndarray:
        """Returns the row ids (B,), int64, of the segments that fulfil a SQL condition."""
        found = self._segments.search().where(condition).with_row_id(True).select(["n"]).to_arrow()
        return found["_rowid"].to_numpy().astype(np.int64)

    def fetch(self, ids: Iterable[int]) -> dict[int, SegmentRow]:
        """Returns rows by id, with empty embeddings, which nobody needs and which are most of the data."""
        columns = [name for name in self.schema.names if name != "embedding"]
        found = self._segments.take_row_ids(list(ids)).with_row_id().select(columns).to_arrow().to_pylist()
        return {row.pop("_rowid"): SegmentRow(**row, embedding=np.empty(0)) for row in found}

    def matching_text(self, query: str, condition: str | None) -> dict[int, float]:
        """Returns the share of the query's words, 0 to 1, that the text of a segment contains, by row id.

        Words are compared by their stems, and stop words such as "the" do not count. Only the `TEXT_HITS` best
        segments by BM25 are returned. `condition` is a SQL condition on segments.
        """
        words = self._words(query)
        if not words:
            return {}
        search = self._segments.search(query, query_type="fts").with_row_id(True).select(["text", "_score"])
        found = (search.where(condition, prefilter=True) if condition else search).limit(TEXT_HITS).to_arrow()
        return {row["_rowid"]: len(words & self._words(row["text"])) / len(words) for row in found.to_pylist()}

    def _words(self, text: str) -> set[str]:
        """Returns the stems of a text, by the tokenizer of the text index."""
        return {token.text for token in self._segments.tokenize(text, column="text")}


def _quoted(value: str) -> str:
    """Returns a SQL string literal. A quote in the value is doubled, so that a path cannot end the literal."""
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
    said: str | None = None,
    things: Sequence[str] = (),
) -> str | None:
    """Returns the SQL condition for segments of certain videos, or None if there is no condition.

    Args:
        folder: Videos below this absolute path.
        min_duration_s, max_duration_s: Videos of this duration in seconds, including the bounds.
        after, before: Files that were last changed in [after, before), in seconds since 1970 (UTC).
        said, things: What the columns of these names contain.
    """
    parts = []
    if folder is not None:
        parts.append(f"starts_with(path, {_quoted(folder.rstrip('/') + '/')})")
    bounds = (("duration_s", ">=", min_duration_s), ("duration_s", "<=", max_duration_s))
    bounds += (("date", ">=", after), ("date", "<", before))
    parts += [f"{column} {sign} {bound!r}" for column, sign, bound in bounds if bound is not None]
    contained = [("said", said)] if said is not None else []
    contained += [("things", thing) for thing in things]
    parts += [f"contains({column}, {_quoted(value)})" for column, value in contained]
    return " AND ".join(parts) or None
