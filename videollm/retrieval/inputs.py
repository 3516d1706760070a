"""The inputs of the towers of a retrieval model: normalised pixels and token ids."""

from collections.abc import Sequence

import open_clip
import torch

from videollm.retrieval.clip import TextTransformer, VisionTransformer
from videollm.retrieval.open_clip_towers import OpenClipText, OpenClipVision, OpenClipWords

MEAN, STD = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    """Returns pixels (...,3,S,S), 0 to 255, as float32, normalised with CLIP's mean and standard deviation."""
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


def normalise_for(visual: VisionTransformer | OpenClipVision, pixels: torch.Tensor) -> torch.Tensor:
    """Returns pixels (...,3,S,S), 0 to 255, as float32, as a visual tower reads them."""
    return visual.normalise(pixels) if isinstance(visual, OpenClipVision) else normalise(pixels)


def resize_of(visual: VisionTransformer | OpenClipVision) -> str:
    """Returns how frames become square for a visual tower, a name in `videollm.encoders.images.RESIZE`."""
    return visual.config.resize if isinstance(visual, OpenClipVision) else "shortest"


def words_of(text: TextTransformer | OpenClipText, length: int) -> Words | OpenClipWords:
    """Returns the tokenizer of a text tower.

    Texts have at most `length` tokens, or what the context of the tower leaves. For a tower of open_clip they have its
    own length, because SigLIP reads padding too.
    """
    if isinstance(text, OpenClipText):
        return OpenClipWords(text.tokenizer)
    return Words(min(length, text.config.context - text.config.prompts))
