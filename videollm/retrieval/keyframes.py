"""Key frames: a few frames, or segments, that represent a whole video.

Shapes: T frames or segments, E shared embedding width.
"""

from dataclasses import dataclass

import torch

from videollm.config import PromptConfig
from videollm.encoders.base import Vocabulary
from videollm.encoders.tags import Tag, select_tags
from videollm.errors import ConfigError
from videollm.features.encode import EncodedVideo

# All pairs of frames are compared, so that memory grows with the square of their number. Of longer videos, so many
# evenly spread frames are used.
MAX_FRAMES = 4096


@dataclass(frozen=True, slots=True)
class Keyframe:
    """A key frame.

    Attributes:
        time_s: The time at which the frame is shown, in seconds.
        share: The share of the video that is more similar to this key frame than to the others, 0 to 1.
        tags: The tags of that share of the video.
    """

    time_s: float
    share: float
    tags: tuple[Tag, ...]


def representatives(embeds: torch.Tensor, k: int) -> tuple[list[int], torch.Tensor]:
    """Selects k rows that best represent all rows of `embeds`.

    The selection maximises the facility-location function, the sum over all rows of the cosine with the nearest
    selected row, greedily. This reaches at least 1 - 1/e of the optimum (Nemhauser et al. 1978,
    https://doi.org/10.1007/BF01588971). The function is common for video summaries (Gygli et al. 2015,
    https://doi.org/10.1109/CVPR.2015.7298928).

    Args:
        embeds: Unit vectors (T,E).
        k: The number of rows, at least 1.

    Returns:
        The positions of the selected rows in ascending order, and for each row the number (T,) of the nearest of them.

    Raises:
        ConfigError: If k is below 1.
    """
    if k < 1:
        raise ConfigError(f"the number of frames is {k}; it must be at least 1")
    similarity = embeds @ embeds.T
    covered = torch.full((len(embeds),), -1.0)  # cosine of each row with the nearest selected row
    chosen: list[int] = []
    for _ in range(min(k, len(embeds))):
        gains = (similarity - covered).clamp_min(0).sum(1)
        gains[chosen] = -1  # no row is selected twice, even if nothing is left to gain
        chosen.append(int(gains.argmax()))
        covered = torch.maximum(covered, similarity[chosen[-1]])
    chosen.sort()
    return chosen, similarity[chosen].argmax(0)


def keyframes(video: EncodedVideo, vocabulary: Vocabulary, prompt: PromptConfig, k: int) -> list[Keyframe]:
    """Returns at most k key frames in the order of their times. Raises ConfigError if k is below 1."""
    thinned = torch.linspace(0, len(video.times_s) - 1, min(len(video.times_s), MAX_FRAMES)).round().long()
    features = video.features[thinned]
    chosen, nearest = representatives(features.embed.float().cpu(), k)
    found = []
    for i, frame in enumerate(chosen):
        alike = features.concepts[nearest == i]
        tags = select_tags(alike.float(), vocabulary, k=prompt.tags, threshold=prompt.tag_threshold)
        time_s = float(video.times_s[thinned[frame]])
        found.append(Keyframe(time_s, len(alike) / len(features), tuple(tags)))
    return found
