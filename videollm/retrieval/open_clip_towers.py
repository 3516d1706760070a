"""The towers of any dual encoder of open_clip, such as CLIP with a ResNet or ConvNeXt, EVA and SigLIP.

Source: https://github.com/mlfoundations/open_clip.

Shapes: B videos or texts, T frames, S pixels on each side, L text tokens, E shared embedding width.
"""

import functools
import json
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import open_clip
import torch
from open_clip.model import _build_text_tower, _build_vision_tower
from torch import nn

from videollm.encoders.base import FrameFeatures, TextFeatures
from videollm.encoders.open_clip import refusing_code


@dataclass(frozen=True, kw_only=True)
class OpenClipVisionConfig:
    """A visual tower of open_clip.

    Args:
        embed_dim, quick_gelu, vision_cfg: The entries of open_clip's `model_cfg`.
        image_size: Height and width of a frame in pixels.
        mean, std: The pixels of each channel, 0 to 1, are normalised with these.
        resize: How frames become square, a name in `videollm.encoders.images.RESIZE`.
    """

    embed_dim: int
    vision_cfg: dict[str, Any]
    image_size: int
    mean: Sequence[float]
    std: Sequence[float]
    resize: str
    quick_gelu: bool = False
    patches: Literal["2d"] = "2d"


@dataclass(frozen=True, kw_only=True)
class OpenClipTextConfig:
    """A text tower of open_clip.

    Args:
        embed_dim, quick_gelu, text_cfg: The entries of open_clip's `model_cfg`.
        tokenizer: What open_clip knows the tokenizer by: an architecture, or `local-dir:` and a folder.
    """

    embed_dim: int
    text_cfg: dict[str, Any]
    tokenizer: str
    quick_gelu: bool = False


class OpenClipVision(nn.Module):
    """Encodes each frame by itself. The statistics of batch normalisation stay as they are, so that no frame depends on
    others of its batch."""

    def __init__(self, config: OpenClipVisionConfig):
        super().__init__()
        self.config = config
        settings: Any = deepcopy(config.vision_cfg)
        self.model = _build_vision_tower(config.embed_dim, settings, config.quick_gelu)
        self.train()

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """Returns pixels (...,3,S,S), 0 to 255, as float32, as the tower reads them."""
        statistics = (self.config.mean, self.config.std)
        mean, std = (255 * torch.tensor(x, device=pixels.device).view(3, 1, 1) for x in statistics)
        return (pixels.float() - mean) / std

    def forward(self, video: torch.Tensor, mask: torch.Tensor, hidden_layers: int = 0) -> FrameFeatures:
        """Returns embed (B,T,E), not normalised, and no hidden layers.

        Args:
            video: Normalised pixels (B,T,3,S,S).
            mask: bool (B,T). Padded frames are encoded too, each by itself.
            hidden_layers: 0, since heads that read hidden layers need a tower that is built as OpenAI's.
        """
        embed = _pooled(self.model(video.flatten(0, 1))).unflatten(0, mask.shape)
        return FrameFeatures(embed.new_zeros(*mask.shape, 0, 1, 0), embed, embed.new_zeros(*mask.shape, 0))


class OpenClipText(nn.Module):
    """Encodes texts. There are no features of single words: each token has the embedding of its text."""

    def __init__(self, config: OpenClipTextConfig):
        super().__init__()
        self.config = config
        settings: Any = deepcopy(config.text_cfg)
        self.model = _build_text_tower(config.embed_dim, settings, config.quick_gelu)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> TextFeatures:
        """Returns tokens (B,L,E) and embed (B,E), not normalised, of ids (B,L), int64, with a mask (B,L), bool."""
        embed = _pooled(self.model(ids))
        return TextFeatures(embed[:, None].expand(-1, ids.shape[1], -1), mask, embed)

    @functools.cached_property
    def tokenizer(self) -> Callable[..., torch.Tensor]:
        with refusing_code():
            return open_clip.get_tokenizer(self.config.tokenizer)

    def save_tokenizer(self, folder: Path) -> None:
        """Writes the tokenizer as open_clip reads it under `local-dir:`."""
        folder.mkdir(exist_ok=True)
        model_cfg = {"embed_dim": self.config.embed_dim, "text_cfg": self.config.text_cfg}
        (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model_cfg, "preprocess_cfg": {}}) + "\n")
        if isinstance(self.tokenizer, open_clip.tokenizer.HFTokenizer):
            self.tokenizer.tokenizer.save_pretrained(folder)


class OpenClipWords:
    """A tokenizer of open_clip. It returns token ids (B,L) and the mask (B,L), True up to the last token that is not
    padding."""

    def __init__(self, tokenizer: Callable[..., torch.Tensor]):
        self.tokenizer = tokenizer
        self.padding = int(tokenizer([""])[0, -1])  # the empty text ends in padding

    def __call__(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        ids = self.tokenizer(list(texts))
        steps = torch.arange(1, ids.shape[1] + 1)
        return ids, steps <= (steps * (ids != self.padding)).amax(1, keepdim=True)

    def reads_whole(self, text: str) -> bool:
        """Whether a text fits without being cut."""
        return int(self.tokenizer([text])[0, -1]) == self.padding


def _pooled(found: torch.Tensor | tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Returns the embedding of a tower, which some towers return beside their tokens."""
    return found if isinstance(found, torch.Tensor) else found[0]
