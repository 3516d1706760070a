"""The pixels themselves, for models that encode frames with a vision tower of their own."""

import torch

from videollm.config import Resize
from videollm.encoders.base import FrameEncoder, FrameFeatures, TextFeatures
from videollm.encoders.images import RESIZE


class PixelEncoder:
    """FrameEncoder that keeps frames as they are: tokens are uint8 (T,3,H,W).

    evidence: the encoder that gives everything else, embeddings and concepts, for evidence, search and tags. An index
    that was made with it can be asked about, since the revision is its own. image_size: the shorter side of the frames
    in pixels.
    """

    def __init__(self, evidence: FrameEncoder, image_size: int):
        self.evidence, self.image_size = evidence, image_size
        self.name, self.revision = f"{evidence.name} and pixels", evidence.revision
        self.tokens_per_frame, self.token_dim = 3, image_size
        self.embed_dim, self.vocabulary = evidence.embed_dim, evidence.vocabulary
        self.scale, self.english_only = evidence.scale, evidence.english_only

    def encode_frames(self, pixels: torch.Tensor) -> FrameFeatures:
        seen = self.evidence.encode_frames(pixels)
        return FrameFeatures(pixels, seen.embed, seen.concepts)

    def encode_text(self, texts: list[str]) -> TextFeatures:
        return self.evidence.encode_text(texts)

    def reads_whole(self, text: str) -> bool:
        return self.evidence.reads_whole(text)


class SquarePixels(PixelEncoder):
    """FrameEncoder whose tokens are the pixels of frames of one size: uint8 (T,3,S*S), the colours being the N tokens.

    evidence: the encoder that gives everything else. image_size: S. resize: how frames become square; "trained" scales
    the short side and crops the centre.
    """

    def __init__(self, evidence: FrameEncoder, image_size: int, resize: Resize = "trained"):
        super().__init__(evidence, image_size)
        self.name = f"{self.name} {resize}"
        self.token_dim = image_size**2
        self._resize = RESIZE["shortest" if resize == "trained" else resize]

    def encode_frames(self, pixels: torch.Tensor) -> FrameFeatures:
        seen = self.evidence.encode_frames(pixels)
        square = self._resize(pixels, self.image_size).round().to(torch.uint8)
        return FrameFeatures(square.flatten(2).to(seen.embed.device), seen.embed, seen.concepts)
