"""The inputs of CLIP's towers: normalised pixels and token ids."""

from collections.abc import Sequence

import open_clip
import torch

MEAN, STD = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    """Returns pixels (...,3,S,S), 0 to 255, as float32 with the mean and deviation of CLIP's training."""
    mean, std = (255 * torch.tensor(x, device=pixels.device).view(3, 1, 1) for x in (MEAN, STD))
    return (pixels.float() - mean) / std


class Words:
    """CLIP's tokenizer. It returns token ids (B,L) and the mask (B,L) of real tokens.

    A text longer than `length` is cut but keeps its end token, as in the published systems.
    """

    def __init__(self, length: int):
        self.length = length
        self.tokenizer = open_clip.SimpleTokenizer(context_length=length)

    def __call__(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        ids = self.tokenizer(list(texts))
        return ids, torch.arange(ids.shape[1]) <= ids.argmax(1, keepdim=True)

    def reads_whole(self, text: str) -> bool:
        """Whether a text fits with its start and end tokens, without being cut."""
        return len(self.tokenizer.encode(text)) + 2 <= self.length
