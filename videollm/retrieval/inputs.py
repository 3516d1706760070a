"""What CLIP's towers read: normalised pixels and token ids."""

from collections.abc import Sequence

import open_clip
import torch

MEAN, STD = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    """0 to 255 (...,3,S,S) -> float32 with the mean and deviation that CLIP was trained with."""
    mean, std = (255 * torch.tensor(x, device=pixels.device).view(3, 1, 1) for x in (MEAN, STD))
    return (pixels.float() - mean) / std


class Words:
    """Texts to CLIP's token ids (B,L) and the mask (B,L) of real ones; what is longer than L is cut, its end mark
    kept, as the published systems do."""

    def __init__(self, length: int):
        self.length = length
        self.tokenizer = open_clip.SimpleTokenizer(context_length=length)

    def __call__(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        ids = self.tokenizer(list(texts))
        return ids, torch.arange(ids.shape[1]) <= ids.argmax(1, keepdim=True)

    def reads_whole(self, text: str) -> bool:
        return len(self.tokenizer.encode(text)) + 2 <= self.length
