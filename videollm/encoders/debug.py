"""A tiny encoder with fixed random weights, for tests. It needs no files and starts at once."""

import hashlib

import torch
from torch.nn import functional as F

from videollm.config import EncoderConfig
from videollm.device import upload
from videollm.encoders.base import FrameFeatures, TextFeatures, Vocabulary
from videollm.encoders.concepts import membership
from videollm.encoders.images import resize_crop

GRID = 8  # frames are averaged to GRID x GRID colours before the random projection
MAX_WORDS = 64  # the largest number of words of a text that are read


class DebugEncoder:
    """The FrameEncoder of the `debug` preset. Its features are fixed random projections of pixels and words.

    Equal inputs give equal outputs in every process.
    """

    name = "debug"
    revision = "1"
    image_size = 32
    tokens_per_frame = 5
    token_dim = 16
    embed_dim = 16
    scale = 10.0
    english_only = False
    vocabulary = Vocabulary(
        ("red", "green", "blue", "square", "circle", "star", "colour", "shape"), (6, 6, 6, 7, 7, 7, -1, -1)
    )

    def __init__(self, config: EncoderConfig | None = None, device: torch.device | str | None = None):
        self.device = torch.device(device or "cpu")
        generator = torch.Generator().manual_seed(0)
        self._project = torch.randn(3 * GRID**2, self.token_dim, generator=generator).to(self.device)
        self._membership = membership(self.vocabulary).to(self.device)
        classes = len(self._membership)
        self.classifier_weight = torch.randn(classes, self.token_dim, generator=generator).to(self.device)

    def encode_frames(self, pixels: torch.Tensor) -> FrameFeatures:
        images = resize_crop(upload(pixels, self.device), self.image_size) / 127.5 - 1
        halves = (slice(0, self.image_size // 2), slice(self.image_size // 2, None))
        views = [images, *(images[..., rows, columns] for rows in halves for columns in halves)]
        pooled = torch.stack([F.adaptive_avg_pool2d(view, GRID).flatten(1) for view in views], dim=1)
        tokens = F.normalize(pooled @ self._project, dim=-1)
        embed = tokens[:, 0].contiguous()
        return FrameFeatures(tokens, embed, (embed @ self.classifier_weight.T).softmax(-1) @ self._membership)

    def features_from_logits(self, logits: torch.Tensor) -> FrameFeatures:
        """Returns the features of simulated frames, given class logits (T,N,6) that begin with those of the whole
        frame."""
        posterior = logits.to(self.device).softmax(-1)
        tokens = F.normalize(posterior @ self.classifier_weight, dim=-1)
        return FrameFeatures(tokens, tokens[:, 0].contiguous(), posterior[:, 0] @ self._membership)

    def encode_text(self, texts: list[str]) -> TextFeatures:
        words = [text.split()[:MAX_WORDS] or [""] for text in texts]
        longest = max(map(len, words))
        tokens = torch.stack([torch.stack([_word(w) for w in row + [""] * (longest - len(row))]) for row in words])
        mask = torch.tensor([[i < len(row) for i in range(longest)] for row in words])
        tokens, mask = tokens.to(self.device), mask.to(self.device)
        mean = tokens.masked_fill(~mask[..., None], 0).sum(1) / mask.sum(1, keepdim=True)
        return TextFeatures(tokens, mask, F.normalize(mean, dim=-1))

    def reads_whole(self, text: str) -> bool:
        return len(text.split()) <= MAX_WORDS


def _word(word: str) -> torch.Tensor:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big")
    return torch.randn(DebugEncoder.token_dim, generator=torch.Generator().manual_seed(seed))
