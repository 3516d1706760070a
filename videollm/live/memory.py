"""The segments of a stream that are remembered, in bounded space however long the stream lasts.

Shapes: T frames, N tokens a frame, D encoder width, E shared width.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from videollm.config import PromptConfig
from videollm.encoders.base import FrameFeatures, Vocabulary
from videollm.encoders.tags import Tag, select_tags
from videollm.live.objects import merged
from videollm.senses.finding import NOTHING, Findings

RECENT = 32  # newest segments, which are not merged while others can be
TEXT_CHARACTERS = 400  # of a merged segment's text


@dataclass(frozen=True, slots=True, eq=False)
class LiveSegment:
    """A part of a stream.

    Attributes:
        start, end: Wall-clock times in seconds since 1970.
        times: float64 (T,), those of its frames.
        features: The features of its frames, on the CPU.
        tags: What the frames show in words, with probabilities.
        text: A description, empty if none was made.
        findings: The people and things that are seen in it, with the same times.
        merged: The number of segments that it was merged from.
    """

    start: float
    end: float
    times: torch.Tensor
    features: FrameFeatures
    tags: tuple[Tag, ...]
    text: str = ""
    findings: Findings = NOTHING
    merged: int = 1

    @property
    def embed(self) -> torch.Tensor:
        """(E,), a unit vector."""
        return F.normalize(self.features.embed.float().mean(0), dim=0)

    @property
    def nbytes(self) -> int:
        f = self.features
        return f.tokens.nbytes + f.embed.nbytes + f.concepts.nbytes


class StreamMemory:
    """The segments of a stream in order of time: the newest as they came, older ones merged with their neighbours.

    Beyond the limits, the two neighbours are merged whose union loses least by Ward's criterion (1963): the squared
    distance of their embeddings, weighted by their durations. Long stretches of the same thus become one segment, while
    a short event between them stays.

    Args:
        max_segments, max_bytes: The limits.
        max_frames: The largest number of frames of a merged segment, evenly spread over it.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        prompt: PromptConfig,
        max_frames: int,
        max_segments: int = 256,
        max_bytes: int = 64 << 20,
    ):
        self._vocabulary, self._prompt, self._max_frames = vocabulary, prompt, max_frames
        self.max_segments, self.max_bytes = max_segments, max_bytes
        self._segments: list[LiveSegment] = []
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._segments)

    def __iter__(self) -> Iterator[LiveSegment]:
        return iter(self._segments)

    def add(self, segment: LiveSegment) -> None:
        """Adds a segment that is later than all others."""
        self._segments.append(segment)
        self.nbytes += segment.nbytes
        while len(self._segments) > 1 and (len(self._segments) > self.max_segments or self.nbytes > self.max_bytes):
            self._merge_two()

    def between(self, start: float, end: float) -> list[LiveSegment]:
        """Returns the segments that have a part in [start, end)."""
        return [s for s in self._segments if s.end > start and s.start < end]

    def _merge_two(self) -> None:
        old = max(2, len(self._segments) - RECENT)
        parts = self._segments[:old]
        embeds = torch.stack([p.embed for p in parts])
        lengths = torch.tensor([max(p.end - p.start, 1e-3) for p in parts])
        weight = lengths[:-1] * lengths[1:] / (lengths[:-1] + lengths[1:])
        losses = weight * (embeds[1:] - embeds[:-1]).square().sum(1)
        at = int(losses.argmin())
        first, second = parts[at], parts[at + 1]
        both = self._merged(first, second)
        self._segments[at : at + 2] = [both]
        self.nbytes += both.nbytes - first.nbytes - second.nbytes

    def _merged(self, first: LiveSegment, second: LiveSegment) -> LiveSegment:
        times = torch.cat([first.times, second.times])
        features = FrameFeatures.cat([first.features, second.features])
        keep = torch.linspace(0, len(times) - 1, min(len(times), self._max_frames)).round().long()
        features = features[keep]
        texts = dict.fromkeys(filter(None, (first.text, second.text)))
        return LiveSegment(
            first.start,
            second.end,
            times[keep],
            features,
            tags_of(features, self._vocabulary, self._prompt),
            " ".join(texts)[:TEXT_CHARACTERS],
            merged(first.findings, second.findings),
            first.merged + second.merged,
        )


def tags_of(features: FrameFeatures, vocabulary: Vocabulary, prompt: PromptConfig) -> tuple[Tag, ...]:
    """Returns the words of a segment with these frames."""
    return tuple(select_tags(features.concepts.float(), vocabulary, k=prompt.tags, threshold=prompt.tag_threshold))
