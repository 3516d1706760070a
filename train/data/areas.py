"""Parts of rendered clips with what they show in words: the box of each thing's track with its name, and the whole clip
with its caption.

Shapes: A areas of a batch, K things, F frames, M moments, P places, H width of word embeddings.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from train.data.dense_truth import LEAST_ALPHA
from train.data.rendered import RenderedClip
from videollm.model import Model


@dataclass(frozen=True, kw_only=True)
class TextAreas:
    """Areas with texts.

    Attributes:
        clip: int64 (A,), the number of the area's clip in the batch.
        weights: float32 (A,M,P), the share of each place that is in the area. They are not all 0.
        texts: float32 (A,H), the mean word embedding of the area's text.
        is_box: bool (A,), True for the box of a thing and False for a whole clip.
    """

    clip: torch.Tensor
    weights: torch.Tensor
    texts: torch.Tensor
    is_box: torch.Tensor


def boxes(clip: RenderedClip, side: int) -> list[tuple[str, torch.Tensor]]:
    """Returns the name of each thing that is seen, such as "red star", with the share of each place that its box
    covers, (M,P), for `side` places along a side and moments of two frames.

    Frames after a change of its colour do not count.
    """
    stage, things = clip.clip.stage, clip.clip.things
    x, y, radius = stage.on_screen()
    shown = (stage.alpha >= LEAST_ALPHA) & (stage.mix <= 0.5)
    edges = np.arange(side) / side

    def covered(middle: np.ndarray) -> np.ndarray:
        """(K,F) to the share of each column or row that the boxes cover (K,F,side)."""
        low, high = (middle - radius)[..., None], (middle + radius)[..., None]
        return (np.minimum(high, edges + 1 / side) - np.maximum(low, edges)).clip(0) * side

    share = covered(y)[..., :, None] * covered(x)[..., None, :] * shown[..., None, None]
    moments = share.shape[1] // 2
    weights = share[:, : 2 * moments].reshape(len(things), moments, 2, side**2).mean(2)
    names = (f"{thing.colour} {thing.shape}" for thing in things)
    return [(name, torch.from_numpy(w).float()) for name, w in zip(names, weights, strict=True) if w.any()]


def text_areas(clips: Sequence[RenderedClip], side: int, model: Model) -> TextAreas:
    """Returns the areas of clips of one length, for `side` places along a side. The word embeddings are those of the
    model's language model."""
    number, weights, texts, is_box = [], [], [], []
    for i, clip in enumerate(clips):
        areas = boxes(clip, side)
        whole = torch.ones(clip.clip.frame_count // 2, side**2)
        number += [i] * (len(areas) + 1)
        weights += [*(w for _, w in areas), whole]
        texts += [*(name for name, _ in areas), clip.turns(0)[0][1]]
        is_box += [*[True] * len(areas), False]
    return TextAreas(
        clip=torch.tensor(number),
        weights=torch.stack(weights),
        texts=mean_words(texts, model),
        is_box=torch.tensor(is_box),
    )


@torch.no_grad()
def mean_words(texts: Sequence[str], model: Model) -> torch.Tensor:
    """Returns the mean word embedding of each text in lower case and without punctuation, float32 (A,H)."""
    bare = [" " + text.lower().replace(",", "").rstrip(".") for text in texts]
    ids = model.processor.tokenizer(bare, add_special_tokens=False)["input_ids"]
    embed = model.llm.get_input_embeddings()
    return torch.stack([embed(torch.tensor(row, device=model.device)).float().mean(0).cpu() for row in ids])
