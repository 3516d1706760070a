"""Zero-shot classification: which of some labels a video shows, without training. C is the number of labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from videollm.encoders.base import FrameEncoder
from videollm.encoders.tags import concept_probabilities
from videollm.errors import ConfigError
from videollm.features.encode import EncodedVideo

# A label's embedding is the mean over these, as in Radford et al. 2021, section 3.1.4.
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
    label: str
    prob: float


def classify(video: EncodedVideo, labels: Sequence[str], encoder: FrameEncoder) -> list[LabelProb]:
    """The labels with probabilities that sum to 1, most probable first: exactly one of them is taken to hold.

    The mean over the frames is compared, at the encoder's own scale. Raises ConfigError for fewer than two labels,
    empty or repeated ones.
    """
    labels = [label.strip() for label in labels]
    if len(labels) < 2 or not all(labels) or len(set(labels)) < len(labels):
        raise ConfigError(
            f"labels are {', '.join(labels) or 'none'}; give at least two different ones, such as cat,dog"
        )
    return compare(video, labels, label_embeddings(labels, encoder), encoder.scale)


def compare(video: EncodedVideo, labels: Sequence[str], embeddings: torch.Tensor, scale: float) -> list[LabelProb]:
    """`classify` with the labels' embeddings (C,E) at hand."""
    shown = F.normalize(video.features.embed.float().cpu().mean(0, keepdim=True), dim=-1)
    probs = concept_probabilities(shown, embeddings, scale)[0].tolist()
    return sorted((LabelProb(*pair) for pair in zip(labels, probs, strict=True)), key=lambda found: -found.prob)


def label_embeddings(labels: Sequence[str], encoder: FrameEncoder) -> torch.Tensor:
    """(C,E) unit vectors."""
    texts = [template.format(label) for label in labels for template in TEMPLATES]
    embeds = encoder.encode_text(texts).embed.float().cpu()
    return F.normalize(embeds.view(len(labels), len(TEMPLATES), -1).mean(1), dim=-1)
