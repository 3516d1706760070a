"""Zero-shot classification of videos (Radford et al. 2021, CLIP).

Shapes: C labels, E shared embedding width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from videollm.encoders.base import FrameEncoder
from videollm.encoders.tags import concept_probabilities
from videollm.errors import ConfigError
from videollm.features.encode import EncodedVideo

# The embedding of a label is the mean over these prompts (Radford et al. 2021, section 3.1.4, "prompt ensembling"),
# which is more accurate than the bare label. The prompts are nouns, for labels such as "cat".
TEMPLATES = (
    "{}",
    "a photo of {}.",
    "a photo of a {}.",
    "a video of {}.",
    "a video of a {}.",
    "a close-up of a {}.",
    "a scene with {}.",
)


@dataclass(frozen=True, slots=True)
class LabelProb:
    """A label and its probability, 0 to 1."""

    label: str
    prob: float


def classify(video: EncodedVideo, labels: Sequence[str], encoder: FrameEncoder) -> list[LabelProb]:
    """Returns the labels with their probabilities, the most probable first.

    The probabilities sum to 1, because exactly one label is assumed to be right. They are the softmax of the scaled
    cosines between the mean embedding of the frames and the embeddings of the labels.

    Args:
        video: The encoded video.
        labels: At least two different labels. Spaces around them are ignored.
        encoder: The encoder of the video.

    Raises:
        ConfigError: If there are fewer than two labels, or labels are empty or repeated.
    """
    labels = [label.strip() for label in labels]
    if len(labels) < 2 or not all(labels) or len(set(labels)) < len(labels):
        raise ConfigError(
            f"the labels are {', '.join(labels) or 'none'}; give at least two different labels, such as cat,dog"
        )
    return compare(video, labels, label_embeddings(labels, encoder), encoder.scale)


def compare(video: EncodedVideo, labels: Sequence[str], embeddings: torch.Tensor, scale: float) -> list[LabelProb]:
    """Returns the same as `classify`, from embeddings (C,E) of the labels that many videos share."""
    shown = F.normalize(video.features.embed.float().cpu().mean(0, keepdim=True), dim=-1)
    probs = concept_probabilities(shown, embeddings, scale)[0].tolist()
    return sorted((LabelProb(*pair) for pair in zip(labels, probs, strict=True)), key=lambda found: -found.prob)


def label_embeddings(labels: Sequence[str], encoder: FrameEncoder) -> torch.Tensor:
    """Returns the embeddings (C,E) of the labels, unit vectors."""
    texts = [template.format(label) for label in labels for template in TEMPLATES]
    embeds = encoder.encode_text(texts).embed.float().cpu()
    return F.normalize(embeds.view(len(labels), len(TEMPLATES), -1).mean(1), dim=-1)
