"""Results as JSON: what `--json` prints, and what the HTTP API returns for the same thing.

The fields of each object are listed here and nowhere else: the commands print them, the server's schemas hold them.
Times are seconds from the start of the video.
"""

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

    from videollm.chat.answer import Answer, Evidence
    from videollm.chat.caption import TimedCaption
    from videollm.chat.library import Citation
    from videollm.chat.summary import Part
    from videollm.encoders.tags import Tag
    from videollm.retrieval.search import Moment
    from videollm.senses.finding import Finding

TagsJSON = list[tuple[str, float]]  # words with their probabilities, likeliest first


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingJSON:
    """What a sense found. box: left, top, right, bottom as fractions of the picture. track: number of the object."""

    start: float
    end: float
    kind: str
    text: str
    score: float
    box: tuple[float, float, float, float] | None = None
    language: str | None = None
    track: int | None = None

    @classmethod
    def of(cls, finding: "Finding") -> Self:
        values = asdict(finding)
        return cls(start=values.pop("start_s"), end=values.pop("end_s"), **values)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceJSON:
    """A part of a video that supports an answer. video: its number among the videos of the conversation."""

    video: int
    start: float
    end: float
    score: float
    tags: TagsJSON
    findings: list[FindingJSON] = field(default_factory=list)

    @classmethod
    def of(cls, evidence: "Evidence") -> Self:
        return cls(
            video=evidence.video,
            start=evidence.start_s,
            end=evidence.end_s,
            score=evidence.score,
            tags=list(evidence.tags),
            findings=[FindingJSON.of(finding) for finding in evidence.findings],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionJSON:
    """A text about a part of a video."""

    start: float
    end: float
    text: str

    @classmethod
    def of(cls, caption: "TimedCaption") -> Self:
        return cls(start=caption.start_s, end=caption.end_s, text=caption.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartJSON:
    """A part of a summary. time: of a frame in its middle. share: of the video that looks most like this part."""

    start: float
    end: float
    text: str
    time: float
    share: float
    tags: TagsJSON

    @classmethod
    def of(cls, part: "Part") -> Self:
        return cls(
            start=part.start_s,
            end=part.end_s,
            text=part.text,
            time=part.time_s,
            share=part.share,
            tags=tags_json(part.tags),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MomentJSON:
    """A part of an indexed video that matches a query. text: its subtitles."""

    video: str
    start: float
    end: float
    score: float
    text: str
    tags: TagsJSON

    @classmethod
    def of(cls, moment: "Moment", video: str | None = None) -> Self:
        """video: what to call the video; its path if None."""
        return cls(
            video=moment.path if video is None else video,
            start=moment.start_s,
            end=moment.end_s,
            score=moment.score,
            text=moment.text,
            tags=tags_json(moment.tags),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CitationJSON:
    """What the answer about a collection says of one part of one video."""

    video: str
    start: float
    end: float
    score: float
    text: str

    @classmethod
    def of(cls, citation: "Citation") -> Self:
        return cls(
            video=citation.path,
            start=citation.start_s,
            end=citation.end_s,
            score=citation.score,
            text=citation.text,
        )


def tags_json(tags: "Sequence[Tag]") -> TagsJSON:
    return [(tag.word, tag.prob) for tag in tags]


def answer_json(answer: "Answer") -> dict[str, Any]:
    return {
        "text": answer.text,
        "evidence": [asdict(EvidenceJSON.of(evidence)) for evidence in answer.evidence],
        "receipt": asdict(answer.receipt),
    }
