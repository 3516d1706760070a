"""Writes the segments of a stream to a search index while it lasts."""

from dataclasses import asdict, replace
from time import monotonic

from videollm.encoders.segments import SegmentEncoder
from videollm.errors import ConfigError
from videollm.live.memory import LiveSegment
from videollm.live.speech import SENSE as SPEECH
from videollm.live.window import format_date
from videollm.models.notes import object_counts
from videollm.retrieval.index import Index
from videollm.retrieval.sensed import repeated
from videollm.retrieval.table import SegmentRow, VideoRow
from videollm.retrieval.words import folded
from videollm.senses.finding import Finding

COMMIT_SEGMENTS, COMMIT_S = 64, 30.0  # what a process that is killed loses at most
HEARD_S = 60.0  # after which all that was said in a segment is known
SETTLE_COMMITS = 50  # after which the fragments of small commits are merged


class StreamIndexer:
    """Appends segments to an index, under the name of the stream and the time at which it began.

    `search --after` and `--before` look at the wall-clock times of segments, and their start and end count from the
    beginning of the stream.

    listens: Whether `hear` will be told what is said. Rows then wait `HEARD_S` for it.
    """

    def __init__(self, index: Index, name: str, *, listens: bool = False):
        if isinstance(index.encoder, SegmentEncoder):
            raise ConfigError(
                f"{index.config.name} embeds whole segments, but a stream is indexed by its frames; use another model"
            )
        self._table, self._name, self._listens = index.table, name, listens
        self._path = ""
        self._origin = 0.0
        self._senses: tuple[str, ...] = ()
        self._rows: list[SegmentRow] = []
        self._count = self._commits = 0
        self._committed = monotonic()

    def add(self, segment: LiveSegment) -> None:
        if not self._path:
            self._path, self._origin = f"{self._name} since {format_date(segment.start)}", segment.start
        end_s = segment.end - self._origin
        self._senses = (*segment.findings.senses, *((SPEECH,) if self._listens else ()))
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
                text="",  # what is said, see `hear`
                embedding=segment.embed.numpy(),
                things=repeated(object_counts(segment.findings)),
            )
        )
        self._count += 1
        if len(self._rows) >= COMMIT_SEGMENTS or monotonic() - self._committed > COMMIT_S:
            self.commit(waits=True)

    def hear(self, sentence: Finding) -> None:
        """Adds what is said to the segment in which it begins, if that has not been written yet."""
        time_s = sentence.start_s - self._origin
        for at, row in enumerate(self._rows):
            if row.start_s <= time_s < row.end_s:
                text = f"{row.text} {sentence.text}".strip()
                self._rows[at] = replace(row, text=text, said=folded(text))

    def commit(self, *, waits: bool = False) -> None:
        """Writes what was added, which a search finds from now on.

        waits: Whether segments of which more may be heard are written later.
        """
        self._committed = monotonic()
        latest = self._rows[-1].end_s if self._rows else 0.0
        known = [row for row in self._rows if not (waits and self._listens) or row.end_s <= latest - HEARD_S]
        if not known:
            return
        video = VideoRow(self._path, 0, 0, "", "", known[-1].end_s, known[-1].n + 1, "", ",".join(self._senses))
        self._table.append(video, known)
        self._rows = self._rows[len(known) :]
        self._commits += 1
        if self._commits % SETTLE_COMMITS == 0:
            self._table.settle()

    def close(self) -> None:
        self.commit()
        if self._commits:
            self._table.settle()
