"""Search: the moments of an index that match a text, an image or a clip."""

import logging
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import torch

from videollm.config import split_sense
from videollm.encoders.tags import Tag
from videollm.errors import ConfigError
from videollm.retrieval.index import Index
from videollm.retrieval.queries import embed_text
from videollm.retrieval.sensed import wanted_things
from videollm.retrieval.table import SegmentRow, SegmentTable, condition
from videollm.retrieval.vectors import Vectors
from videollm.retrieval.words import TEXT_WEIGHT, folded

logger = logging.getLogger(__name__)

CANDIDATES = 64  # the least number of moments that are selected by their embedding before subtitles reorder them


@dataclass(frozen=True, slots=True)
class Moment:
    """A segment of a video that matches a query.

    Attributes:
        path: The video.
        start_s, end_s: Start and end of the segment, in seconds.
        score: The cosine of its embedding with the query, plus `bonus`. Of several vectors, the nearest counts. In the
            results of several models, what `fusion.fuse` gives.
        tags: The tags of the segment.
        text: Its subtitles.
        duration_s: The duration of the video, in seconds.
        bonus: `TEXT_WEIGHT` times the share of the words of a text query that the subtitles contain.
        row: The id of the segment's row in the index, or None if the moment does not come from one.
        is_kept: Whether the video is a file. Of a stream that was watched, only the index is left.
        models: The models whose rows were found, where several were asked (`fusion.search_models`).
    """

    path: str
    start_s: float
    end_s: float
    score: float
    tags: tuple[Tag, ...]
    text: str
    duration_s: float
    bonus: float = 0.0
    row: int | None = None
    is_kept: bool = True
    models: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Filter:
    """A condition on the videos that are searched.

    Args:
        folder: Only videos below this folder.
        min_duration_s, max_duration_s: Only videos of this duration in seconds, including the bounds.
        after, before: Only files that were last changed in [after, before).
        said: Only segments in which these words are said, in this order. Case and accents do not matter.
        has: Only segments that show each of these things, such as "person", or "person>=2" for two of them at once.

    Raises:
        ConfigError: If no video can fulfil the condition.
    """

    folder: Path | None = None
    min_duration_s: float | None = None
    max_duration_s: float | None = None
    after: datetime | None = None
    before: datetime | None = None
    said: str | None = None
    has: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        low, high = self.min_duration_s, self.max_duration_s
        if low is not None and high is not None and low > high:
            raise ConfigError(f"no video is at least {low:g} s and at most {high:g} s long; exchange the bounds")
        if self.after and self.before and self.after >= self.before:
            raise ConfigError(f"no time lies after {self.after} and before {self.before}; exchange the bounds")
        if self.said is not None and not folded(self.said):
            raise ConfigError(f"said is {self.said!r}, which has no words; write the words to look for")
        for thing in self.has:
            wanted_things(thing)

    @property
    def sql(self) -> str | None:
        """The condition in SQL, or None if it holds for all videos."""
        return condition(
            folder=None if self.folder is None else os.path.abspath(self.folder.expanduser()),
            min_duration_s=self.min_duration_s,
            max_duration_s=self.max_duration_s,
            after=self.after.timestamp() if self.after else None,
            before=self.before.timestamp() if self.before else None,
            said=None if self.said is None else folded(self.said),
            things=[wanted_things(thing) for thing in self.has],
        )


def search(
    index: Index,
    query: str | torch.Tensor | None,
    k: int = 10,
    where: Filter | None = None,
    embed: torch.Tensor | None = None,
) -> list[Moment]:
    """Returns the k best moments for a query, the best first.

    The search is exact, unless the index has more than `exact_rows` segments and there is no filter.

    Args:
        index: The index.
        query: A text, or an embedding (E,) such as that of an image (`queries.embed_media`). None takes the moments
            that `where` allows in the order of paths and times, each with score 1.
        k: The largest number of moments.
        where: A filter on the videos.
        embed: The embedding (E,) of a text query, if it is known already.

    Raises:
        ConfigError: If the query is empty, k is below 1, or the index was made without the senses of a filter.
    """
    if k < 1:
        raise ConfigError(f"k is {k}; it must be at least 1")
    if where and (senses := _lacking(index.table, where)):
        raise ConfigError(
            f"{index.table.uri}: the index does not know what is {' and '.join(senses.values())} in its videos; run "
            f"`videollm index` on them once more, with --senses {','.join(senses)}"
        )
    if query is None:
        return _allowed(index, k, where)
    if isinstance(query, str) and index.encoder.english_only and not query.isascii():
        logger.warning("the %s encoder reads English only; it may not understand this query", index.encoder.name)
    if not isinstance(query, str):
        embed = query
    elif embed is None:
        embed = embed_text(query, index.encoder)
    vectors = index.vectors
    if vectors is None:
        return []
    sql = where.sql if where else None
    allowed = None if sql is None else torch.from_numpy(np.isin(vectors.ids, index.table.matching(sql)))
    positions, cosines = vectors.search(embed[None], max(k, CANDIDATES) * index.table.vectors, allowed)
    scores = _greatest(vectors.ids[positions[0].numpy()], cosines[0])
    shares = index.table.matching_text(query, sql) if isinstance(query, str) else {}
    # Segments that were found by their subtitles alone need a cosine too, so that all scores are comparable.
    scores |= _cosines(vectors, embed, [row for row in shares if row not in scores])
    bonus = {row: TEXT_WEIGHT * shares.get(row, 0.0) for row in scores}
    scores = {row: score + bonus[row] for row, score in scores.items()}
    best = sorted(scores, key=lambda row: -scores[row])[:k]
    rows = index.table.fetch(best)
    return [_moment(i, rows[i], scores[i], bonus[i]) for i in best]


def _lacking(table: SegmentTable, where: Filter) -> dict[str, str]:
    """Returns the senses that a filter needs and that looked at no video, each with what it finds."""
    used = {split_sense(name)[0] for name in table.senses()}
    lacking = {}
    # What is said is also known from subtitles.
    if where.said is not None and "speech" not in used and not (table.has_findings and table.has_words):
        lacking["speech"] = "said"
    if where.has and "objects" not in used:
        lacking["objects"] = "seen"
    return lacking


def _allowed(index: Index, k: int, where: Filter | None) -> list[Moment]:
    """Returns the first k moments that `where` allows."""
    sql = where.sql if where else None
    if sql is None:
        raise ConfigError("neither a query nor a filter; say what to look for")
    index.table.refresh()
    rows = index.table.fetch(index.table.matching(sql).tolist())
    ordered = sorted(rows.items(), key=lambda item: (item[1].path, item[1].n))
    return [_moment(i, row, 1.0) for i, row in ordered[:k]]


def _moment(i: int, row: SegmentRow, score: float, bonus: float = 0.0) -> Moment:
    tags = tuple(Tag(**tag) for tag in row.tags)
    return Moment(
        *(row.path, row.start_s, row.end_s, score, tags, row.text, row.duration_s, bonus),
        row=i,
        is_kept=bool(row.sha),
    )


def _cosines(vectors: Vectors, embed: torch.Tensor, ids: list[int]) -> dict[int, float]:
    """Returns the cosines of the rows with these ids with an embedding (E,), by id."""
    at = np.flatnonzero(np.isin(vectors.ids, ids))
    return _greatest(vectors.ids[at], vectors.rows[torch.from_numpy(at)] @ embed)


def _greatest(ids: np.ndarray, cosines: torch.Tensor) -> dict[int, float]:
    """Returns the greatest of the cosines (N,) that belong to each id (N,)."""
    greatest: dict[int, float] = {}
    for row, cosine in zip(ids.tolist(), cosines.tolist(), strict=True):
        greatest[row] = max(cosine, greatest[row]) if row in greatest else cosine
    return greatest
