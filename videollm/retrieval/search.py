"""Moments that match a text, a picture or a clip, best first."""

import logging
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import torch

from videollm.encoders.tags import Tag
from videollm.errors import ConfigError
from videollm.retrieval.index import Index
from videollm.retrieval.queries import embed_text
from videollm.retrieval.table import condition
from videollm.retrieval.vectors import Vectors

logger = logging.getLogger(__name__)

TEXT_WEIGHT = 0.3  # what a moment gains whose subtitles have every word of the query
CANDIDATES = 64  # moments taken by their pictures before subtitles reorder them, at least


@dataclass(frozen=True, slots=True)
class Moment:
    """A stretch of a video. score: the cosine of its embedding with the query, plus `bonus`: up to TEXT_WEIGHT for the
    share of a text query's words that the subtitles have. text: those subtitles."""

    path: str
    start_s: float
    end_s: float
    score: float
    tags: tuple[Tag, ...]
    text: str
    duration_s: float
    bonus: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Filter:
    """Which videos to search: below a folder, of a duration in seconds, last changed in [after, before)."""

    folder: Path | None = None
    min_duration_s: float | None = None
    max_duration_s: float | None = None
    after: datetime | None = None
    before: datetime | None = None

    def __post_init__(self) -> None:
        low, high = self.min_duration_s, self.max_duration_s
        if low is not None and high is not None and low > high:
            raise ConfigError(f"no video is at least {low:g} s and at most {high:g} s long")
        if self.after and self.before and self.after >= self.before:
            raise ConfigError(f"no time lies after {self.after} and before {self.before}")

    @property
    def sql(self) -> str | None:
        return condition(
            folder=None if self.folder is None else str(self.folder.expanduser().absolute()),
            min_duration_s=self.min_duration_s,
            max_duration_s=self.max_duration_s,
            after=self.after.timestamp() if self.after else None,
            before=self.before.timestamp() if self.before else None,
        )


def search(index: Index, query: str | torch.Tensor, k: int = 10, where: Filter | None = None) -> list[Moment]:
    """The k best moments for a text, or for an embedding (E,) such as that of a picture (`queries.embed_media`).

    Exact, except in an index beyond its `exact_rows` searched without a filter. Raises ConfigError for an empty query
    or a k below 1.
    """
    if k < 1:
        raise ConfigError(f"k is {k}; it must be at least 1")
    if isinstance(query, str) and index.encoder.english_only and not query.isascii():
        logger.warning("the %s encoder reads English only; it may not understand this query", index.encoder.name)
    embed = embed_text(query, index.encoder) if isinstance(query, str) else query
    vectors = index.vectors
    if vectors is None:
        return []
    sql = where.sql if where else None
    allowed = None if sql is None else torch.from_numpy(np.isin(vectors.ids, index.table.matching(sql)))
    positions, cosines = vectors.search(embed[None], max(k, CANDIDATES), allowed)
    scores = dict(zip(vectors.ids[positions[0].numpy()].tolist(), cosines[0].tolist(), strict=True))
    shares = index.table.matching_text(query, sql) if isinstance(query, str) else {}
    scores |= _cosines(vectors, embed, [row for row in shares if row not in scores])
    bonus = {row: TEXT_WEIGHT * shares.get(row, 0.0) for row in scores}
    scores = {row: score + bonus[row] for row, score in scores.items()}
    best = sorted(scores, key=lambda row: -scores[row])[:k]
    rows = index.table.fetch(best)
    return [
        Moment(
            rows[i].path,
            rows[i].start_s,
            rows[i].end_s,
            scores[i],
            tuple(Tag(**tag) for tag in rows[i].tags),
            rows[i].text,
            rows[i].duration_s,
            bonus[i],
        )
        for i in best
    ]


def _cosines(vectors: Vectors, embed: torch.Tensor, ids: list[int]) -> dict[int, float]:
    at = np.flatnonzero(np.isin(vectors.ids, ids))
    return dict(zip(vectors.ids[at].tolist(), (vectors.rows[torch.from_numpy(at)] @ embed).tolist(), strict=True))
