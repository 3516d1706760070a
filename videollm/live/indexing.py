"""Writes the segments of a stream to a search index while it lasts."""

from dataclasses import asdict
from time import monotonic

from videollm.encoders.segments import SegmentEncoder
from videollm.errors import ConfigError
from videollm.live.memory import LiveSegment
from videollm.live.window import format_date
from videollm.models.notes import object_counts
from videollm.retrieval.index import Index
from videollm.retrieval.sensed import repeated
from videollm.retrieval.table import SegmentRow, VideoRow

COMMIT_SEGMENTS, COMMIT_S = 64, 30.0  # what a process that is killed loses at most
SETTLE_COMMITS = 50  # after which the fragments of small commits are merged


class StreamIndexer:
    """Appends segments to an index, under the name of the stream and the time at which it began.

    `search --after` and `--before` look at the wall-clock times of segments, and their start and end count from the
    beginning of the stream.
    """

    def __init__(self, index: Index, name: str):
        if isinstance(index.encoder, SegmentEncoder):
            raise ConfigError(
                f"{index.config.name} embeds whole segments, but a stream is indexed by its frames; use another model"
            )
        self._table, self._name = index.table, name
        self._path = ""
        self._origin = 0.0
        self._senses: tuple[str, ...] = ()
        self._rows: list[SegmentRow] = []
        self._count = self._commits = 0
        self._committed = monotonic()

    def add(self, segment: LiveSegment) -> None:
        if not self._path:
            self._path, self._origin = f"{self._name} since {format_date(segment.start)}", segment.start
        end_s, self._senses = segment.end - self._origin, segment.findings.senses
        self._rows.append(
            SegmentRow(
                path=self._path,
                n=self._count,
                start_s=segment.start - self._origin,
                end_s=end_s,
                sha="",
                duration_s=end_s,
                date=segment.start,
                tags=[asdict(tag) for tag in segment.tags],
                text="",  # what is said, to which nobody listens
                embedding=segment.embed.numpy(),
                things=repeated(object_counts(segment.findings)),
            )
        )
        self._count += 1
        if len(self._rows) >= COMMIT_SEGMENTS or monotonic() - self._committed > COMMIT_S:
            self.commit()

    def commit(self) -> None:
        """Writes what was added. A search finds it from now on."""
        if not self._rows:
            return
        video = VideoRow(self._path, 0, 0, "", "", self._rows[-1].end_s, self._count, "", ",".join(self._senses))
        self._table.append(video, self._rows)
        self._rows, self._committed = [], monotonic()
        self._commits += 1
        if self._commits % SETTLE_COMMITS == 0:
            self._table.settle()

    def close(self) -> None:
        self.commit()
        if self._commits:
            self._table.settle()
