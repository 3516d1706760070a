"""Few frames, or segments, that stand for a whole video.

Shapes: T frames or segments, E shared width.
"""

from dataclasses import dataclass

import torch

from videollm.config import PromptConfig
from videollm.encoders.base import Vocabulary
from videollm.encoders.tags import Tag, select_tags
from videollm.errors import ConfigError
from videollm.features.encode import EncodedVideo

MOST = 4096  # frames compared with one another; of longer videos, so many evenly spread


@dataclass(frozen=True, slots=True)
class Keyframe:
    """The frame shown at time_s. share: how much of the video looks most like it, among the key frames. tags: what
    that part shows."""

    time_s: float
    share: float
    tags: tuple[Tag, ...]


def representatives(embeds: torch.Tensor, k: int) -> tuple[list[int], torch.Tensor]:
    """The k rows of embeds (T,E), unit vectors, that best stand for all, in order; and for each row, which of them it
    is nearest to (T,).

    Greedy maximisation of the facility-location function, the sum over rows of the cosine with the nearest chosen one:
    within 1 - 1/e of the best choice (Nemhauser et al. 1978, https://doi.org/10.1007/BF01588971), and a common measure
    for video summaries (Gygli et al. 2015, https://doi.org/10.1109/CVPR.2015.7298928).
    """
    if k < 1:
        raise ConfigError(f"{k} frames were asked for; it must be at least 1")
    similarity = embeds @ embeds.T
    covered = torch.full((len(embeds),), -1.0)
    chosen: list[int] = []
    for _ in range(min(k, len(embeds))):
        gains = (similarity - covered).clamp_min(0).sum(1)
        gains[chosen] = -1
        chosen.append(int(gains.argmax()))
        covered = torch.maximum(covered, similarity[chosen[-1]])
    chosen.sort()
    return chosen, similarity[chosen].argmax(0)


def keyframes(video: EncodedVideo, vocabulary: Vocabulary, prompt: PromptConfig, k: int) -> list[Keyframe]:
    """At most k key frames, in the order of their times. Raises ConfigError for a k below 1."""
    thinned = torch.linspace(0, len(video.times_s) - 1, min(len(video.times_s), MOST)).round().long()
    features = video.features[thinned]
    chosen, nearest = representatives(features.embed.float().cpu(), k)
    found = []
    for i, frame in enumerate(chosen):
        alike = features.concepts[nearest == i]
        tags = select_tags(alike.float(), vocabulary, k=prompt.tags, threshold=prompt.tag_threshold)
        time_s = float(video.times_s[thinned[frame]])
        found.append(Keyframe(time_s, len(alike) / len(features), tuple(tags)))
    return found
