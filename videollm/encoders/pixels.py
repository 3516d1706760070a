"""The pixels themselves, for models of transformers, which encode frames with their own processor and vision tower."""

import torch

from videollm.encoders.base import FrameEncoder, FrameFeatures, TextFeatures


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
