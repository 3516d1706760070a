"""What is seen where in a video: by tracks, by tags and by the frame encoder's scores."""

from collections.abc import Sequence

import torch

from videollm.chat.answer import Evidence
from videollm.encoders.base import FrameEncoder
from videollm.encoders.presence import shown_in
from videollm.encoders.tags import Tag, is_below
from videollm.features.encode import SegmentFeatures
from videollm.models.notes import object_counts
from videollm.senses.finding import Finding, Findings

EVIDENCE = 3  # segments that an answer cites, at most
LEAST_AGREED = 0.6  # mean score of a track that is told where the frame encoder shows the thing too

Sighting = tuple[SegmentFeatures, float]
"""A segment that shows something, with the score of that."""


def seen_counts(encoder: FrameEncoder, findings: Findings, segments: Sequence[SegmentFeatures]) -> dict[str, int]:
    """How many of each thing are seen: of those that the detector is sure of, and of those of which it is less sure
    and the frame encoder shows them too."""
    sure = object_counts(findings)
    return {
        name: count
        for name, count in object_counts(findings, LEAST_AGREED).items()
        if name in sure or shown(encoder, name, segments)
    }


def evidence_for(
    encoder: FrameEncoder, thing: str, findings: Findings, segments: Sequence[SegmentFeatures]
) -> tuple[Evidence, ...]:
    """The segments that show a thing: by tracks that are sure enough to be told, by the frame encoder, or by tags."""
    if thing in object_counts(findings):
        return evidence_of_findings([f for f in findings.of("object") if f.text == thing], segments)
    return cited(shown(encoder, thing, segments)) or cited(
        [(segment, tag.prob) for segment, tag in tagged(encoder, thing, segments)]
    )


def tagged(encoder: FrameEncoder, word: str, segments: Sequence[SegmentFeatures]) -> list[tuple[SegmentFeatures, Tag]]:
    """The segments' tags that are the word or below it in the encoder's vocabulary, in order of time."""
    return [(s, tag) for s in segments for tag in s.tags if is_below(tag.word, word, encoder.vocabulary)]


def shown(encoder: FrameEncoder, words: str, segments: Sequence[SegmentFeatures]) -> list[Sighting]:
    """The segments that show what `words` name by the frame encoder's scores, best first."""
    known = [(segment, segment.concepts) for segment in segments if segment.concepts is not None]
    if not known:
        return []
    seen, concepts = zip(*known, strict=True)
    return [(seen[i], score) for i, score in shown_in(encoder, words, embeds_of(seen), torch.stack(concepts))]


def cited(sightings: Sequence[Sighting]) -> tuple[Evidence, ...]:
    """The best of the sightings as evidence."""
    best = sorted(sightings, key=lambda item: -item[1])[:EVIDENCE]
    return tuple(evidence_of(segment, score) for segment, score in best if score > 0)


def embeds_of(segments: Sequence[SegmentFeatures]) -> torch.Tensor:
    return torch.stack([segment.embed.float() for segment in segments])


def evidence_of(segment: SegmentFeatures, score: float, video: int = 0) -> Evidence:
    tags = tuple((tag.word, tag.prob) for tag in segment.tags)
    return Evidence(segment.start_s, segment.end_s, score, tags, video, segment.findings.found)


def evidence_of_findings(findings: Sequence[Finding], segments: Sequence[SegmentFeatures]) -> tuple[Evidence, ...]:
    """The segments that hold the findings, with the best of their scores."""
    scored = [(s, max((f.score for f in findings if f in s.findings.found), default=0.0)) for s in segments]
    return cited(scored)
