"""Summaries of long videos: a few parts, each with its times, a description and a frame."""

from dataclasses import dataclass

import torch

from videollm.chat.caption import caption
from videollm.encoders.tags import Tag
from videollm.features.encode import EncodedVideo, SegmentFeatures, format_time
from videollm.inference.engine import Engine
from videollm.model import Model
from videollm.retrieval.contact_sheet import Panel
from videollm.retrieval.keyframes import representatives


@dataclass(frozen=True, slots=True)
class Part:
    """A segment that represents a part of the video.

    Attributes:
        start_s, end_s: The times of the segment in seconds.
        time_s: The presentation time of the frame in its middle, in seconds.
        share: The share of the video whose segments resemble this one more than any other part, from 0 to 1.
        tags: Concepts of the segment with their probabilities.
        text: The model's description of the segment.
    """

    start_s: float
    end_s: float
    time_s: float
    share: float
    tags: tuple[Tag, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Summary:
    """A description of the whole video, and its parts in the order of the video."""

    text: str
    parts: tuple[Part, ...]

    def storyboard(self, path: str) -> list[Panel]:
        """Returns one picture per part, of the video at `path`, with its times and text."""
        return [
            Panel(
                path, part.time_s, f"{format_time(part.start_s)}-{format_time(part.end_s)}  {part.text}", _words(part)
            )
            for part in self.parts
        ]


def summarize(model: Model, video: EncodedVideo, k: int = 6, engine: Engine | None = None) -> Summary:
    """Describes the whole video, and each of the k segments that represent it best.

    The times are those of the segments. They are not generated.
    """
    segments = video.segments(model.config, model.encoder.vocabulary)
    chosen, nearest = representatives(torch.stack([s.embed.float() for s in segments]), k)
    lengths = torch.tensor([s.end_s - s.start_s for s in segments])
    parts = []
    for i, number in enumerate(chosen):
        segment = segments[number]
        share = float(lengths[nearest == i].sum() / lengths.sum())
        parts.append(
            Part(
                segment.start_s,
                segment.end_s,
                float(segment.times_s[len(segment.times_s) // 2]),
                share,
                segment.tags,
                describe(model, video, segment, engine),
            )
        )
    return Summary(caption(model, video, engine).text, tuple(parts))


def describe(model: Model, video: EncodedVideo, segment: SegmentFeatures, engine: Engine | None = None) -> str:
    """Returns the model's description of one segment, which it sees without the others."""
    return caption(model, video.part(segment.start_s, segment.end_s), engine).text


def describe_at(model: Model, video: EncodedVideo, time_s: float) -> str:
    """Returns the model's description of the segment that contains a time in seconds."""
    segments = video.segments(model.config, model.encoder.vocabulary)
    return describe(model, video, next(s for s in reversed(segments) if s.start_s <= time_s))


def _words(part: Part) -> str:
    return ", ".join(tag.word for tag in part.tags)
