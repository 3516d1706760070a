"""A long video in a few parts: when, what is in them, and a frame of each."""

from dataclasses import dataclass

import torch

from videollm.chat.caption import caption
from videollm.checkpoint import Model
from videollm.encoders.tags import Tag
from videollm.features.encode import EncodedVideo, SegmentFeatures, format_time
from videollm.inference.engine import Engine
from videollm.retrieval.keyframes import representatives
from videollm.retrieval.sheet import Panel


@dataclass(frozen=True, slots=True)
class Part:
    """A segment that stands for the share of the video that looks most like it. time_s: a frame in its middle."""

    start_s: float
    end_s: float
    time_s: float
    share: float
    tags: tuple[Tag, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Summary:
    text: str
    parts: tuple[Part, ...]

    def storyboard(self, path: str) -> list[Panel]:
        return [
            Panel(
                path, part.time_s, f"{format_time(part.start_s)}-{format_time(part.end_s)}  {part.text}", _words(part)
            )
            for part in self.parts
        ]


def summarize(model: Model, video: EncodedVideo, k: int = 6, engine: Engine | None = None) -> Summary:
    """The k segments that best stand for the video, in their order, each described by itself, and one text for all of
    it. Times are the segments' own, never the language model's."""
    segments = video.segments(model.config, model.encoder.vocabulary)
    chosen, nearest = representatives(torch.stack([s.embed.float().cpu() for s in segments]), k)
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
    """What the model says of one segment, seen by itself."""
    return caption(model, video.part(segment.start_s, segment.end_s), engine).text


def describe_at(model: Model, video: EncodedVideo, time_s: float) -> str:
    """What the model says of the segment around a time."""
    segments = video.segments(model.config, model.encoder.vocabulary)
    return describe(model, video, next(s for s in reversed(segments) if s.start_s <= time_s))


def _words(part: Part) -> str:
    return ", ".join(tag.word for tag in part.tags)
